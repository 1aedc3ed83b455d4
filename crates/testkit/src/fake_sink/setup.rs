//! Folders, audiences and columns of the fake account. Names are not unique, as at the real one.

use std::time::Duration;

use convoke_core::SinkError;
use convoke_core::sink::{
    AudienceTarget, KEY_COLUMN, KeyLookUp, NewColumn, Provision, RemoteAudience, RemoteColumn, RemoteFolder, Survey,
};

#[derive(Default)]
pub(super) struct Account {
    trims_names: bool,
    folders: Vec<(Duration, RemoteFolder)>,
    audiences: Vec<(Duration, RemoteAudience)>,
    /// Audience id and column.
    columns: Vec<(Duration, String, RemoteColumn)>,
}

impl Account {
    pub(super) fn made(&self) -> (usize, usize, usize) {
        (self.folders.len(), self.audiences.len(), self.columns.len())
    }

    pub(super) fn add_audience(&mut self, id: &str, name: &str, kind: &str) {
        let (id, name, kind) = (id.to_owned(), name.to_owned(), kind.to_owned());
        let audience = RemoteAudience { id, name, kind, folder_id: None, record_count: Some(0) };
        self.audiences.push((Duration::ZERO, audience));
    }

    pub(super) fn survey(
        &self,
        target: &AudienceTarget,
        known_id: Option<&str>,
        now: Duration,
    ) -> Result<Survey, SinkError> {
        let wanted_id = target.spec.id.as_deref().or(known_id);
        let folder = target.spec.folder.as_deref().unwrap_or(&target.spec.name);
        let is_wanted = |audience: &RemoteAudience| match wanted_id {
            Some(id) => audience.id == id,
            None => audience.name == target.spec.name,
        };
        let visible = self.audiences.iter().filter(|(at, _)| *at <= now).map(|(_, audience)| audience);
        let audiences: Vec<RemoteAudience> = visible.filter(|audience| is_wanted(audience)).cloned().collect();
        if let (Some(id), []) = (wanted_id, &audiences[..]) {
            return Err(SinkError::NotFound { message: format!("there is no audience `{id}`") });
        }
        let folders = self.folders.iter().filter(|(at, found)| *at <= now && found.name == folder);
        let mut survey = Survey {
            folders: folders.map(|(_, found)| found.clone()).collect(),
            audiences,
            columns: Vec::new(),
            key_look_up: None,
        };
        if let [audience] = &survey.audiences[..] {
            let columns = self.columns.iter().filter(|(at, owner, _)| *at <= now && *owner == audience.id);
            survey.columns = columns.map(|(_, _, column)| column.clone()).collect();
        }
        if survey.columns.iter().any(|column| column.name == KEY_COLUMN) {
            survey.key_look_up = Some(KeyLookUp { values_per_request: 10, by_prefix: true });
        }
        Ok(survey)
    }

    pub(super) fn trim_names(&mut self) {
        self.trims_names = true;
    }

    fn kept_name(&self, name: &str) -> String {
        if self.trims_names { name.trim().to_owned() } else { name.to_owned() }
    }

    /// Makes a thing that shows from this moment on; returns the id of a folder or audience.
    pub(super) fn make(&mut self, step: &Provision, at: Duration) -> Option<String> {
        match step {
            Provision::Folder { name } => {
                let id = format!("folder-{}", self.folders.len() + 1);
                let name = self.kept_name(name);
                self.folders.push((at, RemoteFolder { id: id.clone(), name }));
                return Some(id);
            }
            Provision::Audience { name, kind, folder_id, columns, .. } => {
                let id = format!("audience-{}", self.audiences.len() + 1);
                let folder_id = Some(folder_id.clone());
                let (name, kind) = (self.kept_name(name), kind.clone());
                let audience = RemoteAudience { id: id.clone(), name, kind, folder_id, record_count: Some(0) };
                self.audiences.push((at, audience));
                self.add_columns(&id, columns, at);
                return Some(id);
            }
            Provision::Columns { audience_id, columns } => self.add_columns(audience_id, columns, at),
            Provision::HideColumn { column_id, .. } => {
                let hit = self.columns.iter_mut().find(|(_, _, column)| column.id == *column_id);
                if let Some((_, _, column)) = hit {
                    column.hidden = true;
                }
            }
            Provision::MatchCriteria { audience_id, criteria } => self.set_criteria(audience_id, criteria, at),
        }
        None
    }

    fn add_columns(&mut self, audience_id: &str, columns: &[NewColumn], at: Duration) {
        for column in columns {
            let id = format!("column-{}", self.columns.len() + 1);
            let made = RemoteColumn {
                id,
                name: column.name.clone(),
                data_type: column.data_type.as_str().to_owned(),
                column_type: if column.is_match { "ZOOMINFO_MATCH" } else { "CUSTOM" }.to_owned(),
                hidden: false,
                match_criteria: Vec::new(),
            };
            self.columns.push((at, audience_id.to_owned(), made));
        }
    }

    /// Makes the match column when it is missing, as the real API does.
    fn set_criteria(&mut self, audience_id: &str, criteria: &[(String, String)], at: Duration) {
        let is_match =
            |owner: &String, column: &RemoteColumn| owner == audience_id && column.column_type == "ZOOMINFO_MATCH";
        if !self.columns.iter().any(|(_, owner, column)| is_match(owner, column)) {
            let column = NewColumn {
                name: "ZoomInfo Contact".to_owned(),
                data_type: convoke_core::DataType::ZiContactId,
                is_match: true,
            };
            self.add_columns(audience_id, &[column], at);
        }
        let hit = self.columns.iter_mut().find(|(_, owner, column)| is_match(owner, column));
        if let Some((_, _, column)) = hit {
            column.match_criteria = criteria.to_vec();
        }
    }
}
