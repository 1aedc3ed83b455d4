//! What an audience's rows are, and what they can be matched by, in GTM Studio's names.

use std::fmt;

use serde::Serialize;

/// What an audience's rows are. It cannot be changed once the audience is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AudienceKind {
    Contact,
    Company,
}

impl AudienceKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Contact, Self::Company];

    /// The name the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contact => "CONTACT",
            Self::Company => "COMPANY",
        }
    }

    /// Reads the name that [`AudienceKind::as_str`] gives.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// What rows of this kind can be matched by (`MatchFields` of the API).
    pub fn match_fields(self) -> &'static [&'static str] {
        match self {
            Self::Contact => CONTACT_FIELDS,
            Self::Company => COMPANY_FIELDS,
        }
    }
}

impl fmt::Display for AudienceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The last two are documented for both kinds.
const CONTACT_FIELDS: &[&str] = &[
    "CONTACT_FIRST_NAME",
    "CONTACT_LAST_NAME",
    "CONTACT_EMAIL",
    "JOB_TITLE",
    "DIRECT_PHONE",
    "MOBILE_PHONE",
    "CONTACT_STREET",
    "CONTACT_CITY",
    "CONTACT_STATE",
    "CONTACT_COUNTRY",
    "CONTACT_ZIP_CODE",
    "ZOOMINFO_CONTACT_ID",
    "CONTACT_MIDDLE_NAME",
    "CONTACT_LINKEDIN_URL",
    "CONTACT_TWITTER_URL",
    "CONTACT_LINKEDIN_COMPANY_ID",
    "CONTACT_ZOOMINFO_COMPANY_ID",
    "CONTACT_PARENT_ID",
    "CONTACT_HASHED_EMAILS",
    "CONTACT_LINKEDIN_PRIVATE_IDS",
    "COMPANY_WEBSITE",
    "COMPANY_NAME",
];

const COMPANY_FIELDS: &[&str] = &[
    "COMPANY_WEBSITE",
    "COMPANY_NAME",
    "ZOOMINFO_COMPANY_ID",
    "COMPANY_COUNTRY",
    "COMPANY_STATE",
    "COMPANY_CITY",
    "COMPANY_ZIP_CODE",
    "COMPANY_PHONE",
    "COMPANY_TICKER",
    "COMPANY_LINKEDIN_ID",
    "COMPANY_IP_ADDRESSES",
    "COMPANY_METRO_AREA",
    "COMPANY_LINKEDIN_URL",
    "COMPANY_FACEBOOK_URL",
    "COMPANY_TWITTER_URL",
    "COMPANY_GOOGLE_PLUS_URL",
    "COMPANY_YOUTUBE_URL",
    "COMPANY_LOCATION",
    "COMPANY_LOCATION_CODE",
];
