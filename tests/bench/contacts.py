"""The source in DuckDB's SQL: how its file is read, and what becomes of its columns. Imports nothing, so costs nothing."""

CELLS = {
    "Email": "lower(trim(email))",
    "Full Name": "first_name || ' ' || last_name",
    "Company": "company",
    "Domain": "domain",
    "Title": "title",
    "Phone": "phone",
    "City": "city",
    "Country": "country",
    "Employees": "employees",
}


def reading(path):
    """SQL of the lines of a CSV or Parquet file."""
    return f"read_parquet('{path}')" if path.endswith(".parquet") else f"read_csv('{path}')"
