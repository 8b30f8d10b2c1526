//! What a run is made of: the plans, the sites' names, and each site's rows.
//!
//! Start at [`Material::of`].

use crate::error::SimError;
use crate::population::{SiteRows, Table, deal, inner_split};
use crate::scenario::{DataSettings, Scenario, ScoreOn};
use crate::synthetic::{make, plans};

use koinon_client::engine::SiteTrainer;
use koinon_client::features::{Mapping, read_table};
use koinon_client::source::ReadLimits;
use koinon_client::source::csv::{CsvOptions, CsvSource};
use koinon_client::trainer::Trainer;
use koinon_model::features::FeaturePlan;
use koinon_model::features::table::Purpose;
use koinon_model::plan::TrainingPlan;
use koinon_model::spec::CheckedSpec;
use koinon_proto::SiteId;
use std::io::Cursor;
use std::sync::Arc;

/// What one run is made of.
pub(crate) struct Material {
    pub(crate) spec: CheckedSpec,
    pub(crate) features: FeaturePlan,
    pub(crate) training: TrainingPlan,
    pub(crate) names: Vec<SiteId>,
    pub(crate) rows: Option<Rows>,
}

/// A table, dealt out.
pub(crate) struct Rows {
    pub(crate) table: Arc<Table>,
    pub(crate) sites: Vec<SiteRows>,
}

impl Material {
    /// The material of one seed.
    pub(crate) fn of(scenario: &Scenario, seed: u64) -> Result<Material, SimError> {
        let settings = &scenario.settings;
        let (table, share, spec, features, training) = match (&settings.data, &scenario.files) {
            (DataSettings::Arithmetic(made), _) => {
                let (spec, features, training) = plans(made)?;
                let names = (0..made.sites).map(|i| site_name(&format!("site-{i:03}")));
                let names = names.collect::<Result<_, _>>()?;
                return Ok(Material { spec, features, training, names, rows: None });
            }
            (DataSettings::Synthetic(made), _) => {
                let drawn = make(made, &settings.training, seed)?;
                let table = Arc::new(drawn.table);
                (table, made.test_share, drawn.spec, drawn.features, drawn.training)
            }
            (DataSettings::Table(paths), Some(files)) => (
                files.table.clone(),
                paths.test_share,
                files.spec.clone(),
                files.features.clone(),
                files.training.clone(),
            ),
            (DataSettings::Table(_), None) => {
                return Err(SimError::scenario("the scenario's tables were not loaded"));
            }
        };
        let partition = settings.partition.as_ref();
        let partition =
            partition.ok_or_else(|| SimError::scenario("the data have rows, but no partition"))?;
        let mut sites = deal(&table, partition, &features.label().column, share, seed)?;
        if settings.score == ScoreOn::Inner {
            sites = inner_split(sites, share, seed);
        }
        let names = sites.iter().map(|s| site_name(&s.name)).collect::<Result<_, _>>()?;
        Ok(Material { spec, features, training, names, rows: Some(Rows { table, sites }) })
    }

    /// What the manifest names, verbatim.
    pub(crate) fn blobs(&self) -> Vec<Vec<u8>> {
        vec![
            self.spec.canonical().to_vec(),
            self.features.canonical_bytes(),
            self.training.canonical(),
        ]
    }

    /// The shipped trainer over a site's training rows; none where there are no rows.
    pub(crate) fn trainer(&self, site: usize) -> Option<Box<dyn Trainer>> {
        let Rows { table, sites } = self.rows.as_ref()?;
        let rows = sites.get(site)?;
        let (csv, name) = (table.to_csv(&rows.train), format!("{}.csv", rows.name));
        let read = move |plan: &FeaturePlan, purpose: Purpose| {
            let input = Box::new(Cursor::new(csv.clone()));
            let mut source = CsvSource::from_reader(name.clone(), input, CsvOptions::default())?;
            let (mapping, limits) = (Mapping::default(), ReadLimits::default());
            read_table(&mut source, plan, &mapping, &limits, purpose)
        };
        Some(Box::new(SiteTrainer::new(Box::new(read))))
    }
}

fn site_name(name: &str) -> Result<SiteId, SimError> {
    SiteId::new(name).map_err(|e| SimError::refused("site names", e))
}
