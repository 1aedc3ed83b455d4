//! Makes folders, audiences, columns and match criteria: one step, one request, one attempt.

use convoke_core::SinkError;
use convoke_core::sink::{NewColumn, Provision, ProvisionAnswer};
use reqwest::Method;
use serde::de::IgnoredAny;

use crate::answers::Purpose;
use crate::api::{Api, Call, Outcome};
use crate::wire::{
    ColumnPatch, Document, Identified, MatchCriterion, NewAudience, NewColumnAttributes, NewFolder, NewMatchCriteria,
    NewResource, encode, encode_document,
};

/// See [`AudienceSetup::provision`](convoke_core::sink::AudienceSetup::provision).
pub(crate) async fn provision(api: &Api, step: &Provision) -> Result<ProvisionAnswer, SinkError> {
    let call = call_for(api, step)?;
    let outcome = match api.attempt(&call).await? {
        Outcome::Done { body, .. } => match made_id(step, &body) {
            Ok(id) => return Ok(ProvisionAnswer::Applied { id }),
            Err(_) => call.unconfirmed()?,
        },
        other => other,
    };
    match outcome {
        Outcome::NotApplied { reason, retry_after } => Ok(ProvisionAnswer::NotApplied { reason, retry_after }),
        Outcome::Unknown { trouble } => Ok(ProvisionAnswer::Unknown { reason: trouble.summary }),
        Outcome::Done { .. } => Ok(ProvisionAnswer::Unknown { reason: "the answer was not understood".to_owned() }),
        Outcome::Refused { status, body, .. } => Ok(ProvisionAnswer::Refused { reason: call.refusal(status, &body) }),
    }
}

/// The id of the folder or audience that was made, if the answer tells it; `Err`: it is not what the API declares.
fn made_id(step: &Provision, body: &[u8]) -> Result<Option<String>, serde_json::Error> {
    serde_json::from_slice::<Document<IgnoredAny>>(body)?;
    if !matches!(step, Provision::Folder { .. } | Provision::Audience { .. }) {
        return Ok(None);
    }
    let document = serde_json::from_slice::<Document<Identified>>(body).ok();
    Ok(document.map(|document| document.data.id).filter(|id| !id.is_empty()))
}

fn call_for(api: &Api, step: &Provision) -> Result<Call, SinkError> {
    Ok(match step {
        Provision::Folder { name } => {
            api.call(Purpose::Provision, Method::POST, &["folders"]).body(encode("Folder", NewFolder { name }))
        }
        Provision::Audience { name, kind, folder_id, description, columns } => {
            let description = description.as_deref();
            let columns = inline_columns(columns)?;
            let audience = NewAudience { name, kind, origin: "CUSTOM", folder_id, description, columns };
            api.call(Purpose::Provision, Method::POST, &["audiences"]).body(encode("Audience", audience))
        }
        Provision::Columns { audience_id, columns } => api
            .call(Purpose::Provision, Method::POST, &["audiences", audience_id, "columns", "actions", "bulk", "create"])
            .body(encode_document(columns.iter().map(new_column).collect::<Vec<_>>())),
        Provision::HideColumn { audience_id, column_id } => api
            .call(Purpose::Provision, Method::PATCH, &["audiences", audience_id, "columns", column_id])
            .body(encode("Column", ColumnPatch { is_hidden: true })),
        Provision::MatchCriteria { audience_id, criteria } => api
            .call(Purpose::Provision, Method::POST, &["audiences", audience_id, "actions", "match-criteria"])
            .body(encode("UpsertMatchCriteria", match_criteria(criteria))),
    })
}

/// The API makes only columns that we fill together with their audience; match columns depend on those.
fn inline_columns(columns: &[NewColumn]) -> Result<Vec<NewResource<NewColumnAttributes<'_>>>, SinkError> {
    if let Some(column) = columns.iter().find(|column| column.is_match) {
        let name = &column.name;
        return Err(SinkError::Protocol {
            message: format!("match column `{name}` cannot be made together with its audience; add it afterwards"),
        });
    }
    Ok(columns.iter().map(new_column).collect())
}

fn new_column(column: &NewColumn) -> NewResource<NewColumnAttributes<'_>> {
    let column_type = if column.is_match { "ZOOMINFO_MATCH" } else { "CUSTOM" };
    let attributes = NewColumnAttributes { name: &column.name, data_type: column.data_type.as_str(), column_type };
    NewResource { kind: "Column", attributes }
}

fn match_criteria(criteria: &[(String, String)]) -> NewMatchCriteria {
    let criterion = |(column_id, mapped_to): &(String, String)| MatchCriterion {
        column_id: column_id.clone(),
        mapped_to: mapped_to.clone(),
    };
    NewMatchCriteria { match_criteria: criteria.iter().map(criterion).collect() }
}
