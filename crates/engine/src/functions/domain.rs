//! `normalize_domain`: the domain in a link, a host or an e-mail address.

use url::Url;

/// Lower case, ASCII form (IDNA), without `www.`; NULL if there is no domain of at least two labels.
pub(super) fn normalize(text: &str) -> Option<String> {
    let host = host_of(text.trim())?;
    let ascii = idna::domain_to_ascii_strict(host.trim_end_matches('.')).ok()?;
    let domain = ascii.strip_prefix("www.").filter(|rest| rest.contains('.')).unwrap_or(&ascii);
    is_domain(domain).then(|| domain.to_owned())
}

fn host_of(text: &str) -> Option<String> {
    if text.contains("://") {
        return Url::parse(text).ok()?.host_str().map(str::to_owned);
    }
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    let behind_at = address.rsplit_once('@').map_or(address, |(_, host)| host);
    let host = behind_at.split(['/', '?', '#', ':']).next()?;
    (!host.is_empty()).then(|| host.to_owned())
}

fn is_domain(text: &str) -> bool {
    let Some((_, top_level)) = text.rsplit_once('.') else { return false };
    let is_label = |label: &str| !label.is_empty() && label.len() <= 63;
    text.len() <= 253 && text.split('.').all(is_label) && top_level.bytes().any(|byte| byte.is_ascii_alphabetic())
}
