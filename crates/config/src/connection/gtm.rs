//! Decodes `gtm` and `embedded` connections.

use std::path::Path;

use convoke_core::ConnectionName;
use convoke_core::spec::{GtmConnection, GtmEndpoint, RateLimits};

use super::{http, secret};
use crate::field::Field;
use crate::report::Report;
use crate::yaml::Value;

/// ZoomInfo's published limits per account.
const RATE_PRESETS: &[(&str, RateLimits)] = &[
    ("builder", limits(5, 10_800, 129_600)),
    ("standard", limits(25, 54_000, 648_000)),
    ("scaling", limits(35, 75_600, 907_200)),
    ("unlimited", RateLimits { per_second: None, per_hour: None, per_day: None }),
];

const fn limits(per_second: u32, per_hour: u32, per_day: u32) -> RateLimits {
    RateLimits { per_second: Some(per_second), per_hour: Some(per_hour), per_day: Some(per_day) }
}

/// How the API's base and its token endpoint end at GTM Studio and at the audience store.
const API_SUFFIX: &str = "/studio/v1";
const TOKEN_SUFFIX: &str = "/oauth/v1/token";

/// Decodes one checked connection; none if anything about it was refused.
pub(super) fn decode(name: &str, root: &Field<'_>, base_dir: &Path, report: &mut Report) -> Option<GtmConnection> {
    let (gtm, embedded) = (root.field("gtm"), root.field("embedded"));
    let block = if gtm.is_given() { &gtm } else { &embedded };
    let endpoint = if gtm.is_given() {
        remote_endpoint(&gtm, report)
    } else {
        embedded.field("data").text().map(|data| GtmEndpoint::Embedded { data: base_dir.join(data) })
    };
    if let Some(consent) = http::given_consent(block, "allow_blind_creates") {
        report.warning(
            consent.place,
            &consent.path,
            "where keys cannot be searched, a lost answer stops the sync until `convoke adopt`",
        );
    }
    // The embedded store is reached like any other; what is said about its HTTP client are the defaults.
    let http = http::settings(&gtm.field("http"), base_dir)?;
    Some(GtmConnection {
        name: ConnectionName::new(name),
        endpoint: endpoint?,
        http,
        rate: rate_limits(&block.field("rate"), report)?,
        requests_in_flight: usize::try_from(block.field("requests_in_flight").count()?).ok()?,
        max_commit_delay: block.field("max_commit_delay").duration()?,
        settle: block.field("settle").duration()?,
        allow_blind_creates: block.field("allow_blind_creates").boolean().unwrap_or(false),
    })
}

fn remote_endpoint(gtm: &Field<'_>, report: &mut Report) -> Option<GtmEndpoint> {
    let base_url = gtm.field("base_url");
    let token_url = gtm.field("token_url");
    http::check_encryption(gtm, &[&base_url, &token_url], report);
    let base = base_url.text().map(|url| url.trim_end_matches('/').to_owned());
    let token = token_url.text().map(str::to_owned).or_else(|| derive_token_url(&base_url, base.as_deref(), report));
    let client_id = gtm.field("client_id").text().map(str::to_owned);
    let secret = secret::decode(&gtm.field("client_secret"), report);
    Some(GtmEndpoint::Remote { base_url: base?, token_url: token?, client_id: client_id?, client_secret: secret? })
}

fn derive_token_url(base_url: &Field<'_>, base: Option<&str>, report: &mut Report) -> Option<String> {
    let base = base?;
    let root = base.strip_suffix(API_SUFFIX);
    if root.is_none() {
        let message = format!("does not end in `{API_SUFFIX}`, so the token endpoint is not known; add `token_url`");
        report.problem(base_url.place, &base_url.path, message);
    }
    root.map(|root| format!("{root}{TOKEN_SUFFIX}"))
}

fn rate_limits(rate: &Field<'_>, report: &mut Report) -> Option<RateLimits> {
    if let Some(preset) = rate.choice(RATE_PRESETS) {
        return Some(preset);
    }
    let block = rate.given().filter(|node| matches!(node.value, Value::Map(_)))?;
    let window = |name: &str| rate.field(name).count().and_then(|count| u32::try_from(count).ok());
    let limits =
        RateLimits { per_second: window("per_second"), per_hour: window("per_hour"), per_day: window("per_day") };
    if limits == (RateLimits { per_second: None, per_hour: None, per_day: None }) {
        let message = "sets no limit; give `per_second`, `per_hour` or `per_day`, or write `unlimited`";
        report.problem(block.place, &rate.path, message);
    }
    Some(limits)
}
