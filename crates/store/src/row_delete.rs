//! Deleting rows in bulk.

use uuid::Uuid;

use crate::audience;
use crate::column::{self, Column};
use crate::error::{Error, Place, Problem, ProblemKind, Result};
use crate::job::{self, Job, JobKind};
use crate::row;
use crate::statement::{Bind, Statement};
use crate::tenant::Tenant;

impl Tenant {
    /// Deletes rows and returns the job that did it.
    ///
    /// The job's promise is that none of these rows is in the audience any more, so rows that are already gone do not
    /// make it fail. Rows and job are written together: a job that can be polled has done its work.
    pub async fn delete_rows(&self, audience_id: &str, row_ids: &[&str]) -> Result<Job> {
        let ids = parse_ids(row_ids)?;
        let mut writing = self.store.write().await?;
        let audience = audience::find(&mut writing, self, audience_id).await?;
        let columns = column::list(&mut writing, audience.number).await?;
        let stored = row::load(&mut writing, audience.number, &ids).await?;
        let indexed: Vec<&Column> = columns.iter().filter(|column| column.is_indexed()).collect();
        row::remove_entries(&mut writing, &row::entries_of(&stored, &indexed)?).await?;
        let mut delete = Statement::new("DELETE FROM audience_rows WHERE number IN ");
        delete.bind_tuple(stored.iter().map(|stored| Bind::Integer(stored.number)));
        let deleted = delete.execute(&mut writing).await?;
        let now = self.store.now();
        sqlx::query("UPDATE audiences SET record_count = record_count - ?, updated_at = ? WHERE number = ?")
            .bind(i64::try_from(deleted).unwrap_or(i64::MAX))
            .bind(now.0)
            .bind(audience.number)
            .execute(&mut *writing)
            .await?;
        let job = job::add_finished(&mut writing, audience.number, JobKind::RowDelete, now).await?;
        writing.commit().await?;
        Ok(job)
    }
}

fn parse_ids(row_ids: &[&str]) -> Result<Vec<Uuid>> {
    let mut problems = Vec::new();
    let mut ids = Vec::with_capacity(row_ids.len());
    for (index, id) in row_ids.iter().enumerate() {
        match id.parse() {
            Ok(id) => ids.push(id),
            Err(_) => {
                let place = Place::Pointer(format!("/data/{index}/id"));
                problems.push(Problem::new(place, ProblemKind::Value, "`id` must be a UUID"));
            }
        }
    }
    Error::unless_none(problems)?;
    Ok(ids)
}
