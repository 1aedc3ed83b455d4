//! What the next step is, from what exists.

use convoke_core::ConnectionName;
use convoke_core::sink::KeyLookUp;
use convoke_core::spec::{AudienceKind, AudienceSpec};

use super::*;

fn target() -> AudienceTarget {
    AudienceTarget {
        spec: AudienceSpec {
            connection: ConnectionName::new("zoominfo"),
            name: "Booth Scans".to_owned(),
            id: None,
            kind: convoke_core::spec::AudienceKind::Contact,
            folder: None,
            description: Some("From the booth".to_owned()),
            match_criteria: vec![("Email".to_owned(), "CONTACT_EMAIL".to_owned())],
            match_columns: vec![("ZoomInfo Contact".to_owned(), DataType::ZiContactId)],
        },
        columns: vec![("Email".to_owned(), DataType::Email)],
    }
}

fn audience(id: &str) -> RemoteAudience {
    RemoteAudience {
        id: id.to_owned(),
        name: "Booth Scans".to_owned(),
        kind: "CONTACT".to_owned(),
        folder_id: None,
        record_count: None,
    }
}

fn column(name: &str, data_type: &str, column_type: &str) -> RemoteColumn {
    RemoteColumn {
        id: format!("id of {name}"),
        name: name.to_owned(),
        data_type: data_type.to_owned(),
        column_type: column_type.to_owned(),
        hidden: name == KEY_COLUMN,
        match_criteria: Vec::new(),
    }
}

/// An audience with everything in place.
fn complete() -> Survey {
    let mut matched = column("ZoomInfo Contact", "ZI_CONTACT_ID", "ZOOMINFO_MATCH");
    matched.match_criteria = vec![("id of Email".to_owned(), "CONTACT_EMAIL".to_owned())];
    Survey {
        folders: Vec::new(),
        audiences: vec![audience("a")],
        columns: vec![column("Email", "EMAIL", CUSTOM), column(KEY_COLUMN, "TEXT", CUSTOM), matched],
        key_look_up: Some(KeyLookUp { values_per_request: 100, by_prefix: true }),
    }
}

fn made(survey: &Survey) -> Provision {
    match next_step(&target(), survey, None) {
        Ok(Step::Make(provision)) => provision,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_audience_gets_its_folder_first_and_its_columns_with_it() {
    assert_eq!(made(&Survey::default()), Provision::Folder { name: "Booth Scans".to_owned() });
    let folder = RemoteFolder { id: "f".to_owned(), name: "Booth Scans".to_owned() };
    let with_folder = Survey { folders: vec![folder], ..Survey::default() };
    let Provision::Audience { folder_id, kind, columns, .. } = made(&with_folder) else { panic!() };
    assert_eq!((folder_id.as_str(), kind.as_str()), ("f", AudienceKind::Contact.as_str()));
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["Email", KEY_COLUMN]);
    assert!(columns.iter().all(|column| !column.is_match));
}

#[test]
fn an_audience_that_has_everything_is_ready() {
    let Ok(Step::Ready(binding)) = next_step(&target(), &complete(), None) else { panic!() };
    assert_eq!(binding.key.audience_id, "a");
    assert_eq!(binding.key_column_id, format!("id of {KEY_COLUMN}"));
    assert_eq!(binding.columns[0].id, "id of Email");
    assert_eq!(outlook(&target(), &complete(), None), Ok(Vec::new()));
}

#[test]
fn what_an_existing_audience_lacks_is_added_in_order() {
    let mut survey = complete();
    let matched = survey.columns.pop().unwrap();
    let Provision::Columns { columns, .. } = made(&survey) else { panic!() };
    assert!(columns[0].is_match);

    survey.columns.push(RemoteColumn { match_criteria: Vec::new(), ..matched });
    survey.columns[1].hidden = false;
    assert!(matches!(made(&survey), Provision::HideColumn { .. }));

    survey.columns[1].hidden = true;
    let Provision::MatchCriteria { criteria, .. } = made(&survey) else { panic!() };
    assert_eq!(criteria, [("id of Email".to_owned(), "CONTACT_EMAIL".to_owned())]);
}

#[test]
fn a_bound_audience_is_known_by_its_id_whatever_its_name_is() {
    let mut renamed = complete();
    renamed.audiences[0].name = "Renamed".to_owned();
    let Ok(Step::Ready(binding)) = next_step(&target(), &renamed, Some("a")) else { panic!() };
    assert_eq!(binding.name, "Renamed");
    let gone = next_step(&target(), &renamed, Some("b"));
    assert!(matches!(gone, Err(SetupProblem::AudienceGone { .. })), "{gone:?}");
}

#[test]
fn what_cannot_be_used_is_refused_with_its_name() {
    let two = Survey { audiences: vec![audience("a"), audience("b")], ..Survey::default() };
    let folder = RemoteFolder { id: "f".to_owned(), name: "Booth Scans".to_owned() };
    let two_folders = Survey { folders: vec![folder.clone(), folder], ..Survey::default() };
    let mut company = complete();
    company.audiences[0].kind = "COMPANY".to_owned();
    let mut other_type = complete();
    other_type.columns[0].data_type = "TEXT".to_owned();
    let mut formula = complete();
    formula.columns[0].column_type = "FORMULA".to_owned();
    let mut twice = complete();
    twice.columns.push(column("Email", "EMAIL", CUSTOM));
    let problem = |survey: &Survey| next_step(&target(), survey, None).unwrap_err().to_string();
    let cases = [
        (&two, "2 audiences are named `Booth Scans` (a, b)"),
        (&two_folders, "2 folders are named `Booth Scans`"),
        (&company, "is of type COMPANY, and the sync wants CONTACT"),
        (&other_type, "column `Email` of audience `Booth Scans` has type TEXT, and the mapping wants EMAIL"),
        (&formula, "is of kind FORMULA and cannot be written"),
        (&twice, "has 2 columns named `Email`"),
    ];
    for (survey, expected) in cases {
        assert!(problem(survey).contains(expected), "{}", problem(survey));
    }
}

#[test]
fn what_was_made_is_missing_until_all_of_it_shows() {
    let survey = complete();
    let step = |survey: &Survey| next_step(&target(), survey, None).unwrap();
    let audience = new_audience(&target(), "f");
    let columns = |names: &[&str]| Provision::Columns {
        audience_id: "a".to_owned(),
        columns: names
            .iter()
            .map(|name| NewColumn { name: (*name).to_owned(), data_type: DataType::Text, is_match: false })
            .collect(),
    };
    let both = columns(&["Email", "ZoomInfo Contact"]);
    let mut partial = survey.clone();
    partial.columns.retain(|column| column.name != "Email");
    assert!(lacks(&step(&partial), &both), "one of two shows");
    assert!(lacks(&step(&partial), &audience), "it shows without all of its columns");
    assert!(!lacks(&step(&partial), &columns(&["ZoomInfo Contact"])), "what else is missing is another matter");
    assert!(lacks(&step(&Survey::default()), &audience));
    assert!(!lacks(&step(&survey), &both));
    assert_eq!(both.describe(), columns(&["Email"]).describe(), "the columns of an audience are one thing");
}

#[test]
fn the_outlook_says_what_would_be_made() {
    let words = outlook(&target(), &Survey::default(), None).unwrap();
    assert_eq!(
        words,
        [
            "make folder `Booth Scans`",
            "make audience `Booth Scans` of type CONTACT with columns `Email`",
            "add hidden column `convoke_key`",
            "add column `ZoomInfo Contact` (ZI_CONTACT_ID), filled by matching",
            "match by `Email` as CONTACT_EMAIL",
        ]
    );
    let mut grown = complete();
    grown.columns.remove(0);
    let words = outlook(&target(), &grown, None).unwrap();
    assert_eq!(words[0], "add column `Email` (EMAIL) to audience `Booth Scans`");
}
