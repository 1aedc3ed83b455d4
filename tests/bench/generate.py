"""Writes deterministic contacts: generate.py ROWS FOLDER csv|parquet

Twelve columns. Every twentieth line repeats an earlier person with the e-mail address in other case or with outer spaces
and with another title, telephone number and city, so that 95 % of the lines are distinct people; updated_at is unique.

contacts            the first load
contacts_rewritten  the same records in reverse order: what a daily export is
contacts_chg1       1 % of the lines with another title and a later updated_at
"""

import os
import sys

import duckdb

FIRST_NAMES = ["Anna", "Björn", "Chloé", "Dylan", "Elena", "Felix", "Greta", "Håkon", "Ines", "Jonas", "Katrin", "Łukasz",
               "Mara", "Nils", "Olga", "Priya", "Quentin", "Rosa", "Søren", "Tara", "Uma", "Vera", "William", "Zoë"]
LAST_NAMES = ["Schmidt", "O'Brien", "Müller", "Kowalski", "Dubois", "Núñez", "Rossi", "Virtanen", "Hansen", "Reed",
              "van den Berg", "Lindqvist", "Patel", "Horváth", "Walker", "Moreau", "Novák", "Silva", "Keller"]
MAIL_NAMES = ["schmidt", "obrien", "muller", "kowalski", "dubois", "nunez", "rossi", "virtanen", "hansen", "reed",
              "vandenberg", "lindqvist", "patel", "horvath", "walker", "moreau", "novak", "silva", "keller"]
COMPANIES = ["Aldermoor", "Birkenfeld", "Cobalt", "Dunmore", "Eastmark", "Fjordlys", "Harrow", "Isarwerk", "Juniper",
             "Kestrel", "Mondsee", "Northgate", "Orchid", "Pinecrest", "Quarry", "Rosenthal", "Saltmarsh", "Tamarind"]
SUFFIXES = ["Inc", "GmbH", "Ltd", "S.A.", "LLC", "AG", "& Söhne", '"Group" plc', "Foods, Inc"]
LEVELS = ["Junior", "Senior", "Lead", "Head of", "VP", "Director,", "Chief", "Manager,", "Associate", "Principal"]
FIELDS = ["Sales", "Marketing", "Engineering", "Finance", "Operations", "Product", "Legal", "People", "Data", "Security",
          'Research "Lab"', "Procurement", "Growth"]
CITIES = ["Berlin", "München", "Paris", "Lyon", "London", "Leeds", "Boston", "Austin", "Kraków", "Malmö", "Zürich", "Gent"]
COUNTRIES = ["DE", "FR", "GB", "US", "PL", "SE", "CH", "BE", "NL", "ES", "IT", "IE"]

# Prime and larger than any row count's factors: line * STRIDE modulo the row count visits each number once.
STRIDE = 7_368_787
# DuckDB's own default.
MAX_ROW_GROUP_ROWS = 122_880
YEAR_SECONDS = 31_536_000


def choose(values, seed):
    """SQL that picks one of the values by a hash of the seed expression."""
    listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"[{listed}][1 + (hash({seed}) % {len(values)})::int]"


def records(rows, changed):
    """SQL of all lines, in order."""
    title_shift = "CASE WHEN is_changed THEN 1 ELSE 0 END" if changed else "0"
    delay = f"CASE WHEN is_changed THEN {YEAR_SECONDS + 86_400} ELSE 0 END" if changed else "0"
    step_micros = max(1, YEAR_SECONDS * 1_000_000 // rows)
    titles = [f"{level} {field}" for level in LEVELS for field in FIELDS]
    title_list = ", ".join("'" + title + "'" for title in titles)
    return f"""
    WITH lines AS (
        SELECT i, i % 20 = 19 AS is_repeat,
            CASE WHEN i % 20 = 19
                THEN (hash(i, 1) % (i // 20 + 1)) * 20 + hash(i, 2) % 19 ELSE i END AS person,
            hash(i, 3) % 100 = 0 AS is_changed
        FROM range({rows}) AS numbers(i)),
    people AS (
        SELECT *, hash(person, 4) % {max(50, rows // 20)} AS company_number,
            CASE WHEN is_repeat THEN i + 1000000000 ELSE person END AS variant FROM lines),
    companies AS (
        SELECT *, {choose(COMPANIES, "company_number, 5")} AS company_name,
            lower({choose(COMPANIES, "company_number, 5")}) || company_number || '.example' AS domain FROM people),
    addressed AS (
        SELECT *, {choose(MAIL_NAMES, "person, 6")} || person || '@' || domain AS plain_email FROM companies)
    SELECT i AS id,
        CASE WHEN NOT is_repeat THEN plain_email
            WHEN hash(i, 7) % 4 = 0 THEN upper(plain_email)
            WHEN hash(i, 7) % 4 = 1 THEN '  ' || plain_email
            WHEN hash(i, 7) % 4 = 2 THEN upper(plain_email) || ' '
            ELSE upper(plain_email[1]) || plain_email[2:] END AS email,
        {choose(FIRST_NAMES, "person, 8")} AS first_name,
        {choose(LAST_NAMES, "person, 6")} AS last_name,
        company_name || company_number || ' ' || {choose(SUFFIXES, "company_number, 9")} AS company,
        domain,
        [{title_list}][1 + ((hash(variant, 10) % {len(titles)})::int + {title_shift}) % {len(titles)}] AS title,
        CASE WHEN hash(variant, 11) % 33 = 0 THEN NULL
            ELSE '+' || (10 + hash(person, 12) % 90) || ' ' || (1000000000 + hash(variant, 13) % 9000000000) END AS phone,
        {choose(CITIES, "variant, 14")} AS city,
        {choose(COUNTRIES, "company_number, 15")} AS country,
        (1 + hash(company_number, 16) % 50000)::INTEGER AS employees,
        strftime(make_timestamp(1735689600000000 + ((i * {STRIDE}) % {rows}) * {step_micros}
            + ({delay}) * 1000000::BIGINT), '%Y-%m-%dT%H:%M:%S.%fZ') AS updated_at
    FROM addressed"""


def writing(file_format, rows):
    """Options of COPY. Parquet has several row groups at every size, as a file of an export job has."""
    if file_format == "csv":
        return "FORMAT csv, HEADER"
    return f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {min(MAX_ROW_GROUP_ROWS, rows // 8)}"


def typed(query, file_format):
    """Parquet has a type for times, and sources use it."""
    return query if file_format == "csv" else f"SELECT * REPLACE (updated_at::TIMESTAMP AS updated_at) FROM ({query})"


def main():
    rows, folder, file_format = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    os.makedirs(folder, exist_ok=True)
    connection = duckdb.connect()
    connection.execute("SET threads = 2; SET memory_limit = '4GB'; SET temp_directory = '" + folder + "/spill'")

    def write(query, name):
        path = f"{folder}/{name}.{file_format}"
        connection.execute(f"COPY ({typed(query, file_format)}) TO '{path}.part' ({writing(file_format, rows)})")
        os.replace(f"{path}.part", path)

    first, changed = records(rows, changed=False), records(rows, changed=True)
    write(first + " ORDER BY i", "contacts")
    write(first + " ORDER BY i DESC", "contacts_rewritten")
    # The last one: where it lies, all lie.
    write(changed + " ORDER BY i", "contacts_chg1")


if __name__ == "__main__":
    main()
