//! Pages: `page[number]`, `page[size]`, `sort`, and the links and counts of a list.

use convoke_store::{Page, Sort};
use serde::Serialize;
use url::form_urlencoded;

use crate::call::Call;
use crate::failure::Failure;

/// Resources per page if the request does not say.
const DEFAULT_SIZE: u32 = 25;

/// The last page that is given: the vendor's platform refuses those beyond it, and so a client has to slice what is longer.
const LAST_PAGE: u32 = 100;

/// A page of a list.
#[derive(Serialize)]
pub(crate) struct List<T> {
    data: Vec<T>,
    meta: ListMeta,
    links: Links,
}

#[derive(Serialize)]
struct ListMeta {
    page: PageMeta,
    total: u64,
}

#[derive(Serialize)]
struct PageMeta {
    size: u32,
    number: u32,
}

/// Links that lead nowhere are left out.
#[derive(Serialize)]
struct Links {
    first: String,
    last: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl<T> List<T> {
    pub(crate) fn new(call: &Call, page: Page, total: u64, data: Vec<T>) -> Self {
        // A link leads to a page that is given.
        let last = total.div_ceil(u64::from(page.size)).clamp(1, u64::from(LAST_PAGE));
        let number = u64::from(page.number);
        let link = |number: u64| link(call, number, page.size);
        let links = Links {
            first: link(1),
            last: link(last),
            prev: (number > 1).then(|| link((number - 1).min(last))),
            next: (number < last).then(|| link(number + 1)),
        };
        Self { data, meta: ListMeta { page: PageMeta { size: page.size, number: page.number }, total }, links }
    }
}

/// The request's own URL with another page number.
fn link(call: &Call, number: u64, size: u32) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in call.query_pairs() {
        if key != "page[number]" && key != "page[size]" {
            query.append_pair(key, value);
        }
    }
    query.append_pair("page[number]", &number.to_string()).append_pair("page[size]", &size.to_string());
    format!("{}?{}", call.url, query.finish())
}

/// Reads which page is wanted.
pub(crate) fn page(call: &Call, max_size: u32) -> Result<Page, Failure> {
    let number = parse_number(call, "page[number]", 1, u32::MAX)?;
    if number > LAST_PAGE {
        let detail = format!("`page[number]` must not be beyond {LAST_PAGE}; narrow the search down");
        return Err(Failure::parameter("page[number]", detail).with_code("PFAPI0002"));
    }
    let size = parse_number(call, "page[size]", DEFAULT_SIZE, max_size)?;
    Ok(Page { number, size })
}

fn parse_number(call: &Call, name: &str, default: u32, max: u32) -> Result<u32, Failure> {
    let Some(text) = call.query(name) else { return Ok(default) };
    match text.parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(Failure::parameter(name, format!("`{name}` must be a number from 1 to {max}"))),
    }
}

/// Reads `sort`: one key, descending with a `-` before it.
pub(crate) fn sort<'a>(call: &'a Call, default: &'a str) -> Sort<&'a str> {
    let text = call.query("sort").unwrap_or(default);
    match text.strip_prefix('-') {
        Some(key) => Sort { key, descending: true },
        None => Sort { key: text, descending: false },
    }
}
