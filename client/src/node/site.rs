//! The site's own trainer, as its settings describe it: the file with the rows, read when a job needs them.
//!
//! Rows are read again for each feature plan and fit, and forgotten with the trainer; a file that grew counts from the next
//! task on. Deliberately nothing is copied elsewhere. Start at [`trainer`].

use super::config::{Config, Data};
use crate::engine::SiteTrainer;
use crate::features::read_table;
use crate::source::{DataError, ReadLimits};
use koinon_model::features::FeaturePlan;
use koinon_model::features::table::{Purpose, Table};

/// A trainer on the rows that `client.toml` names. Without any, each job fails with a message that says so.
#[must_use]
pub fn trainer(config: &Config) -> SiteTrainer {
    let data = config.data.clone();
    SiteTrainer::new(Box::new(move |plan, purpose| match &data {
        Some(data) => rows(data, plan, purpose),
        None => Err(DataError::Open {
            name: "client.toml".into(),
            reason: "there is no [data] section; name the file with this site's rows in it".into(),
        }),
    }))
}

/// The site's rows by a feature plan.
///
/// # Errors
/// [`DataError`], by row and column.
pub fn rows(data: &Data, plan: &FeaturePlan, purpose: Purpose) -> Result<Table, DataError> {
    let mut source = data.open()?;
    read_table(source.as_mut(), plan, &data.mapping(), &ReadLimits::default(), purpose)
}
