//! Folders, audiences, columns and match criteria.

use convoke_core::sink::{Destination, KEY_COLUMN, Provision, Survey};
use convoke_core::{DataType, SinkError};

use super::account::{AUDIENCE, COLUMNS, FOLDER, make, make_audience, new_column, ready_audience, survey, target};

pub(super) async fn an_empty_account_holds_nothing(destination: &dyn Destination) {
    assert_eq!(survey(destination).await, Survey::default());
}

pub(super) async fn what_was_made_is_found_by_name_and_by_id(destination: &dyn Destination) {
    let by_name = make_audience(destination).await;
    assert_eq!(by_name.folders.len(), 1);
    assert_eq!(by_name.folders[0].name, FOLDER);
    assert_eq!(by_name.audiences.len(), 1);
    let audience = &by_name.audiences[0];
    assert_eq!((audience.name.as_str(), audience.kind.as_str()), (AUDIENCE, "CONTACT"));
    assert_eq!(audience.folder_id.as_ref(), Some(&by_name.folders[0].id));
    assert_eq!(audience.record_count, Some(0));
    for (name, data_type) in COLUMNS.iter().chain([&(KEY_COLUMN, DataType::Text)]) {
        let found: Vec<_> = by_name.columns.iter().filter(|column| column.name == *name).collect();
        assert_eq!(found.len(), 1, "column `{name}`");
        assert_eq!((found[0].data_type.as_str(), found[0].column_type.as_str()), (data_type.as_str(), "CUSTOM"));
    }
    assert!(by_name.key_look_up.is_some_and(|look_up| look_up.values_per_request > 0), "the key column is searchable");
    let by_known_id = destination.survey(&target("Another Name"), Some(&audience.id)).await.expect("a survey by id");
    let mut by_given_id = target("Another Name");
    by_given_id.spec.id = Some(audience.id.clone());
    let by_given_id = destination.survey(&by_given_id, None).await.expect("a survey by id");
    for survey in [by_known_id, by_given_id] {
        assert_eq!(survey.audiences, by_name.audiences);
        assert_eq!(survey.columns, by_name.columns);
        assert_eq!(survey.key_look_up, by_name.key_look_up);
    }
}

pub(super) async fn names_are_compared_exactly(destination: &dyn Destination) {
    make_audience(destination).await;
    for name in [AUDIENCE.to_lowercase(), format!("{AUDIENCE} 2"), AUDIENCE[..5].to_owned()] {
        let survey = destination.survey(&target(&name), None).await.expect("a survey by name");
        assert!(survey.audiences.is_empty(), "`{name}` is not `{AUDIENCE}`");
    }
}

pub(super) async fn an_unknown_id_is_not_found(destination: &dyn Destination) {
    make_audience(destination).await;
    let unknown = "00000000-0000-4000-8000-000000000000";
    let survey = destination.survey(&target(AUDIENCE), Some(unknown)).await;
    assert!(matches!(survey, Err(SinkError::NotFound { .. })), "{survey:?}");
}

pub(super) async fn columns_can_be_added_and_hidden(destination: &dyn Destination) {
    let before = make_audience(destination).await;
    let audience_id = before.audiences[0].id.clone();
    let columns = vec![new_column("Phone", DataType::Phone), new_column("Site", DataType::Url)];
    make(destination, Provision::Columns { audience_id: audience_id.clone(), columns }).await;
    let key_column = before.columns.iter().find(|column| column.name == KEY_COLUMN).expect("the key column was made");
    let column_id = key_column.id.clone();
    make(destination, Provision::HideColumn { audience_id, column_id }).await;
    let after = survey(destination).await;
    assert_eq!(after.columns.len(), before.columns.len() + 2);
    for column in &after.columns {
        assert_eq!(column.hidden, column.name == KEY_COLUMN, "`{}`", column.name);
    }
    assert_eq!(after.key_look_up, before.key_look_up, "a hidden column can still be searched");
}

pub(super) async fn match_criteria_are_kept_and_replaced(destination: &dyn Destination) {
    let audience = ready_audience(destination).await;
    let column_id = |name: &str| {
        let column = audience.columns.iter().find(|column| column.name == name);
        column.map(|column| column.id.clone()).expect("a bound column")
    };
    for criteria in [
        vec![(column_id("Email"), "CONTACT_EMAIL".to_owned())],
        vec![(column_id("Name"), "CONTACT_LAST_NAME".to_owned())],
    ] {
        let audience_id = audience.key.audience_id.clone();
        make(destination, Provision::MatchCriteria { audience_id, criteria: criteria.clone() }).await;
        let kept: Vec<_> =
            survey(destination).await.columns.into_iter().flat_map(|column| column.match_criteria).collect();
        assert_eq!(kept, criteria);
    }
}
