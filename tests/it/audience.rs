//! The judge: reads an audience over the vendor's API, on its own, and compares it with the source. It looks at no book
//! of Convoke's.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::workspace::{Client, Person};

/// One row as the audience shows it: column name to value.
pub(crate) type Row = BTreeMap<String, Value>;

/// Reads every row of the audience of this name; none if there is no such audience.
pub(crate) async fn rows(base_url: &str, client: &Client, name: &str) -> Vec<Row> {
    let reader = Reader::log_in(base_url, client).await;
    let Some(audience) = reader.find(name).await else { return Vec::new() };
    let details = reader.get(&format!("/audiences/{audience}")).await;
    let columns: BTreeMap<String, String> = details["data"]["attributes"]["columns"]
        .as_array()
        .expect("columns")
        .iter()
        .map(|column| (text(&column["id"]), text(&column["attributes"]["name"])))
        .collect();
    let mut rows = Vec::new();
    for number in 1.. {
        let path = format!("/audiences/{audience}/rows/actions/search?page[number]={number}&page[size]=500");
        let page = reader.post(&path, &json!({ "data": { "type": "RowSearch", "attributes": {} } })).await;
        let data = page["data"].as_array().expect("rows").clone();
        if data.is_empty() {
            break;
        }
        rows.extend(data.iter().map(|row| read_row(row, &columns)));
    }
    rows
}

fn read_row(row: &Value, columns: &BTreeMap<String, String>) -> Row {
    let cells = row["attributes"]["values"].as_array().expect("cells");
    cells.iter().map(|cell| (columns[&text(&cell["columnId"])].clone(), cell["value"].clone())).collect()
}

/// Insists that the audience holds exactly these people, each once, with the right cells.
pub(crate) async fn assert_holds(base_url: &str, client: &Client, people: &[Person]) {
    let mut found: Vec<_> = rows(base_url, client, "People").await.iter().map(as_person).collect();
    let mut expected: Vec<_> =
        people.iter().map(|person| (person.email.clone(), person.name.clone(), person.score)).collect();
    found.sort();
    expected.sort();
    let doubled: Vec<_> = found.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| &pair[0].0).collect();
    assert!(doubled.is_empty(), "{} rows stand twice: {:?}…", doubled.len(), &doubled[..doubled.len().min(5)]);
    assert_eq!(found.len(), expected.len(), "number of rows");
    assert!(found == expected, "the audience differs from the source");
}

fn as_person(row: &Row) -> (String, String, i64) {
    let name = row["Name"].as_str().unwrap_or_default().to_owned();
    (text(&row["Email"]), name, row["Score"].as_i64().expect("a number"))
}

/// A client of the API that shares no code with the product's.
struct Reader {
    http: reqwest::Client,
    base_url: String,
    token: String,
}

impl Reader {
    async fn log_in(base_url: &str, client: &Client) -> Self {
        // The provider is process-wide; whoever comes second finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().user_agent("convoke-tests/1").no_proxy().build().expect("a client");
        let answer = http
            .post(format!("{base_url}/gtm/oauth/v1/token"))
            .basic_auth(&client.id, Some(&client.secret))
            .form(&[("grant_type", "client_credentials")])
            .send()
            .await
            .expect("the token endpoint answers");
        let token: Value = answer.json().await.expect("JSON");
        let base_url = format!("{base_url}/gtm/studio/v1");
        Self { http, base_url, token: text(&token["access_token"]) }
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.base_url)).bearer_auth(&self.token);
        let answer = request.send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.expect("JSON")
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}{path}", self.base_url)).bearer_auth(&self.token);
        let answer = request.json(body).send().await.expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The id of the row that holds this address.
    async fn row_id(&self, audience: &str, email: &str) -> String {
        for number in 1.. {
            let path = format!("/audiences/{audience}/rows/actions/search?page[number]={number}&page[size]=500");
            let page = self.post(&path, &json!({ "data": { "type": "RowSearch", "attributes": {} } })).await;
            let rows = page["data"].as_array().expect("rows");
            assert!(!rows.is_empty(), "no row holds `{email}`");
            let holds = |row: &&Value| {
                let cells = row["attributes"]["values"].as_array().expect("cells");
                cells.iter().any(|cell| cell["value"] == email)
            };
            if let Some(row) = rows.iter().find(holds) {
                return text(&row["id"]);
            }
        }
        unreachable!("pages end")
    }

    async fn find(&self, name: &str) -> Option<String> {
        let found = self.get("/audiences?page[size]=100").await;
        let audiences = found["data"].as_array().expect("audiences");
        let ids: Vec<_> = audiences
            .iter()
            .filter(|audience| audience["attributes"]["name"] == name)
            .map(|audience| text(&audience["id"]))
            .collect();
        assert!(ids.len() <= 1, "audience `{name}` was made {} times", ids.len());
        ids.into_iter().next()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected a string, found {value}")).to_owned()
}

/// Deletes the audience, as a person would at the destination.
pub(crate) async fn delete(base_url: &str, client: &Client, name: &str) {
    let reader = Reader::log_in(base_url, client).await;
    let audience = reader.find(name).await.expect("the audience is there");
    let path = format!("{}/audiences/{audience}", reader.base_url);
    let answer = reader.http.delete(path).bearer_auth(&reader.token).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
}

/// Deletes the row with this address, as a person would at the destination.
pub(crate) async fn delete_row(base_url: &str, client: &Client, name: &str, email: &str) {
    let reader = Reader::log_in(base_url, client).await;
    let audience = reader.find(name).await.expect("the audience is there");
    let row = reader.row_id(&audience, email).await;
    let path = format!("{}/audiences/{audience}/rows/actions/bulk/delete", reader.base_url);
    let body = json!({ "data": [{ "id": row, "type": "Row" }] });
    let answer = reader.http.delete(path).bearer_auth(&reader.token).json(&body).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
}

/// The id of the audience of this name.
pub(crate) async fn id(base_url: &str, client: &Client, name: &str) -> String {
    Reader::log_in(base_url, client).await.find(name).await.expect("the audience is there")
}

/// Gives the audience another name, as a person would at the destination.
pub(crate) async fn rename(base_url: &str, client: &Client, name: &str, new_name: &str) {
    let reader = Reader::log_in(base_url, client).await;
    let audience = reader.find(name).await.expect("the audience is there");
    let url = format!("{}/audiences/{audience}", reader.base_url);
    let body = json!({ "data": { "id": audience, "type": "Audience", "attributes": { "name": new_name } } });
    let answer = reader.http.patch(url).bearer_auth(&reader.token).json(&body).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
}

/// Adds a row for this person, as somebody else would: without a key cell.
pub(crate) async fn add_row(base_url: &str, client: &Client, name: &str, person: &Person) {
    let reader = Reader::log_in(base_url, client).await;
    let audience = reader.find(name).await.expect("the audience is there");
    let details = reader.get(&format!("/audiences/{audience}")).await;
    let columns = details["data"]["attributes"]["columns"].as_array().expect("columns");
    let cell = |column: &Value| {
        let value = match column["attributes"]["name"].as_str()? {
            "Email" => json!(person.email),
            "Name" => json!(person.name),
            "Score" => json!(person.score),
            _ => return None,
        };
        Some(json!({ "columnId": column["id"], "value": value }))
    };
    let cells: Vec<_> = columns.iter().filter_map(cell).collect();
    let body = json!({ "data": [{ "type": "Row", "attributes": { "values": cells } }] });
    reader.post(&format!("/audiences/{audience}/rows/actions/bulk/upsert"), &body).await;
}

/// Writes a cell of the row with this address, as a person would at the destination.
pub(crate) async fn edit_row(base_url: &str, client: &Client, name: &str, email: &str, (column, value): (&str, Value)) {
    let hand = Hand::at(base_url, client, name).await;
    let row = hand.row(email).await;
    let cell = json!({ "columnId": hand.column(column), "value": value });
    hand.upsert(&json!({ "id": row["id"], "type": "Row", "attributes": { "values": [cell] } })).await;
}

/// Makes another row with the same cells, the hidden ones too.
pub(crate) async fn copy_row(base_url: &str, client: &Client, name: &str, email: &str) {
    let hand = Hand::at(base_url, client, name).await;
    let row = hand.row(email).await;
    let cells: Vec<_> = row["attributes"]["values"]
        .as_array()
        .expect("cells")
        .iter()
        .filter(|cell| !cell["value"].is_null())
        .map(|cell| json!({ "columnId": cell["columnId"], "value": cell["value"] }))
        .collect();
    hand.upsert(&json!({ "type": "Row", "attributes": { "values": cells } })).await;
}

/// A person at one audience.
struct Hand {
    reader: Reader,
    audience: String,
    columns: Value,
}

impl Hand {
    async fn at(base_url: &str, client: &Client, name: &str) -> Self {
        let reader = Reader::log_in(base_url, client).await;
        let audience = reader.find(name).await.expect("the audience is there");
        let columns = reader.get(&format!("/audiences/{audience}")).await["data"]["attributes"]["columns"].clone();
        Self { reader, audience, columns }
    }

    fn column(&self, name: &str) -> Value {
        let columns = self.columns.as_array().expect("columns");
        let column = columns.iter().find(|column| column["attributes"]["name"] == name);
        column.expect("the column is there")["id"].clone()
    }

    /// The first row with this address.
    async fn row(&self, email: &str) -> Value {
        let path = format!("/audiences/{}/rows/actions/search", self.audience);
        let filter = json!({
            "type": "Filter", "columnId": self.column("Email"), "filterOperator": "EQUALS", "values": [email]
        });
        let search = json!({ "filter": { "operator": "AND", "filters": [filter] } });
        let page = self.reader.post(&path, &json!({ "data": { "type": "RowSearch", "attributes": search } })).await;
        page["data"][0].clone()
    }

    async fn upsert(&self, row: &Value) {
        let path = format!("/audiences/{}/rows/actions/bulk/upsert", self.audience);
        self.reader.post(&path, &json!({ "data": [row] })).await;
    }
}

/// Adds rows for these people, as another program would: without key cells.
pub(crate) async fn add_rows(base_url: &str, client: &Client, name: &str, people: &[Person]) {
    let hand = Hand::at(base_url, client, name).await;
    let [email, full_name, score] = ["Email", "Name", "Score"].map(|column| hand.column(column));
    let row = |person: &Person| {
        let cells = [(&email, json!(person.email)), (&full_name, json!(person.name)), (&score, json!(person.score))];
        let cells = cells.map(|(column, value)| json!({ "columnId": column, "value": value }));
        json!({ "type": "Row", "attributes": { "values": cells } })
    };
    let path = format!("/audiences/{}/rows/actions/bulk/upsert", hand.audience);
    for part in people.chunks(500) {
        let rows: Vec<_> = part.iter().map(row).collect();
        hand.reader.post(&path, &json!({ "data": rows })).await;
    }
}
