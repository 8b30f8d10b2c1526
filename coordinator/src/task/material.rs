//! What a running task computes with: model, feature plan, parameters, server optimizer.
//!
//! All of it is read from blobs and can be read again at any time; nothing here is journaled. It says
//! what a round sums, and makes of an opened sum the next version or the fitted features. Start at
//! [`Material::read`] and [`Material::settle`].

use koinon_aggregation::{EncodingPlan, Field, PlanError, Sum};
use koinon_model::contribution::{FieldChoice, FieldSpec, fields};
use koinon_model::features::FeaturePlan;
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::features::statistics::stat_fields;
use koinon_model::params::Params;
use koinon_model::plan::TrainingPlan;
use koinon_model::spec::{CheckedSpec, ModelSpec};
use koinon_proto::task::{InitFrom, Privacy};
use koinon_proto::{Digest, TaskManifest};

use crate::event::{Rejection, codes};
use crate::optimizer::Optimizer;
use crate::round::Kind;
use crate::task::private;

/// Finds a blob by its digest.
pub(crate) type Find<'a> = &'a dyn Fn(&Digest) -> Option<Vec<u8>>;

/// What a task is made of.
pub(crate) struct Material {
    features: FeaturePlan,
    model: Option<Model>,
    privacy: Option<Privacy>,
}

/// A model in training, or to be measured.
struct Model {
    spec: CheckedSpec,
    params: Params,
    optimizer: Optimizer,
}

/// What a round started from.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    pub(crate) version: Option<Digest>,
    /// What its updates are in units of, where the clip moves from round to round.
    pub(crate) clip: Option<f64>,
}

/// What came of an opened sum, or of a step without one.
pub(crate) struct Settled {
    /// The new version, the fitted features, or the version that was measured.
    pub(crate) result: Digest,
    /// The optimizer's state, if it has one.
    pub(crate) optimizer: Option<Digest>,
    /// What has to be kept.
    pub(crate) blobs: Vec<(Digest, Vec<u8>)>,
}

impl Material {
    /// Reads everything the manifest names, and checks that it fits together. With `at`, parameters
    /// and optimizer are those of a running task; else those it starts from, and fresh parameters are
    /// given back as bytes to be kept.
    pub(crate) fn read(
        manifest: &TaskManifest,
        at: Option<(Digest, Option<Digest>)>,
        find: Find<'_>,
    ) -> Result<(Self, Option<Vec<u8>>), Rejection> {
        let features = FeaturePlan::from_json(&found(find, &manifest.features, "feature plan")?)
            .map_err(|error| bad("feature plan", error))?;
        let training = match &manifest.training {
            Some(digest) => {
                let plan = TrainingPlan::from_json(&found(find, digest, "training plan")?)
                    .and_then(|plan| {
                        plan.check()
                            .and_then(|()| private::check_plan(manifest, &plan))
                            .map(|()| plan)
                    });
                Some(plan.map_err(|error| bad("training plan", error))?)
            }
            None => None,
        };
        let privacy = manifest.privacy;
        let Some(digest) = &manifest.model else {
            return Ok((Self { features, model: None, privacy }, None));
        };
        let spec = ModelSpec::from_json(&found(find, digest, "model spec")?)
            .and_then(ModelSpec::check)
            .map_err(|error| bad("model spec", error))?;
        if spec.input_width() != features.width() {
            let (takes, gives) = (spec.input_width(), features.width());
            let detail =
                format!("the model takes {takes} numbers a row, the feature plan gives {gives}");
            return Err(Rejection::new(codes::BAD_BLOB, detail));
        }
        private::check(manifest, spec.layout().trainable(), &features)?;
        if let Some(plan) = training.filter(|_| manifest.privacy.is_some()) {
            plan.check_outputs(features.label().values.len(), spec.output_width())
                .map_err(|error| bad("training plan", error))?;
        }
        let (params, fresh) = read_params(manifest, &spec, at.map(|(version, _)| version), find)?;
        let optimizer = read_optimizer(manifest, &spec, at.and_then(|(_, state)| state), find)?;
        let model = Some(Model { spec, params, optimizer });
        Ok((Self { features, model, privacy }, fresh))
    }

    /// The fitted features of a private task, which were fitted to nobody's rows.
    pub(crate) fn public_features(&self) -> Option<Vec<u8>> {
        let public = FittedFeatures::public(&self.features).filter(|_| self.privacy.is_some());
        public.map(|fitted| fitted.canonical_bytes())
    }

    /// What a round of that kind sums, and how it is written.
    pub(crate) fn encoding(
        &self,
        manifest: &TaskManifest,
        kind: Kind,
    ) -> Result<EncodingPlan, PlanError> {
        let choice = &manifest.encoding;
        let parameters = self.model.as_ref().map_or(0, |model| model.spec.layout().trainable());
        let (update_bound, frac_bits, rows_max) =
            (choice.update_bound, choice.frac_bits, choice.rows_max);
        let (private, count_frac_bits) = (manifest.privacy.is_some(), manifest.count_frac_bits());
        let choice_of_fields =
            FieldChoice { update_bound, frac_bits, rows_max, private, count_frac_bits };
        let fields = fields(kind.to_fields(), parameters, &self.features, &choice_of_fields);
        let clip_l2 = (kind == Kind::Train).then_some(choice.clip_l2);
        let fields = fields.into_iter().map(to_field).collect();
        let plan = EncodingPlan::new(fields, clip_l2, u32::from(manifest.cohort.max), rows_max)?;
        match private::mechanism(manifest, parameters).map(|mechanism| mechanism.share()) {
            None => Ok(plan),
            Some(Ok(share)) => plan.with_noise(share),
            Some(Err(_)) => Err(PlanError::Range("the noise of a private task")),
        }
    }

    /// Makes of an opened sum what the round was for. When that fails nothing has changed.
    pub(crate) fn settle(
        &mut self,
        kind: Kind,
        at: Start,
        sum: &Sum,
    ) -> Result<Settled, &'static str> {
        match kind {
            Kind::Evaluate => {
                let result = at.version.ok_or(codes::BAD_SUM)?;
                Ok(Settled { result, optimizer: None, blobs: Vec::new() })
            }
            Kind::Statistics => {
                let sums: Option<Vec<Vec<f64>>> =
                    stat_fields(&self.features).iter().map(|field| sum.field(field.name)).collect();
                let fitted =
                    FittedFeatures::from_sums(&self.features, &sums.ok_or(codes::BAD_SUM)?)
                        .map_err(|_| codes::BAD_SUM)?;
                let bytes = fitted.canonical_bytes();
                let result = Digest::of(&bytes);
                Ok(Settled { result, optimizer: None, blobs: vec![(result, bytes)] })
            }
            Kind::Train => {
                let mean = private::mean(self.privacy.as_ref(), at.clip, sum);
                let mean = mean.ok_or(codes::BAD_SUM)?;
                self.step(&mean)
            }
        }
    }

    /// A step on the optimizer's momentum alone. `None` when it would change nothing.
    pub(crate) fn coast(&mut self, version: Option<Digest>) -> Option<Settled> {
        let len = self.model.as_ref()?.spec.layout().trainable();
        let before = self.model.as_ref()?.params.clone();
        let settled = self.step(&vec![0.0; len]).ok()?;
        if Some(settled.result) != version {
            return Some(settled);
        }
        self.model.as_mut()?.params = before;
        None
    }

    fn step(&mut self, mean: &[f64]) -> Result<Settled, &'static str> {
        let model = self.model.as_mut().ok_or(codes::BAD_SUM)?;
        let layout = model.spec.layout();
        let mut optimizer = model.optimizer.clone();
        let step = optimizer.step(mean);
        let params = model.params.stepped(layout, &step).map_err(|_| codes::BAD_SUM)?;
        let bytes = params.to_safetensors(layout).map_err(|_| codes::BAD_SUM)?;
        let result = Digest::of(&bytes);
        let state = optimizer.to_bytes().map(|bytes| (Digest::of(&bytes), bytes));
        let digest = state.as_ref().map(|(digest, _)| *digest);
        (model.params, model.optimizer) = (params, optimizer);
        let blobs = std::iter::once((result, bytes)).chain(state).collect();
        Ok(Settled { result, optimizer: digest, blobs })
    }
}

/// The digests of all blobs that a manifest names.
pub(crate) fn named(manifest: &TaskManifest) -> Vec<Digest> {
    let start = match manifest.init_from {
        InitFrom::Fresh { .. } => None,
        InitFrom::Version { digest } | InitFrom::File { digest } => Some(digest),
    };
    let all = [manifest.model, Some(manifest.features), manifest.training, start];
    all.into_iter().flatten().collect()
}

fn read_params(
    manifest: &TaskManifest,
    spec: &CheckedSpec,
    at: Option<Digest>,
    find: Find<'_>,
) -> Result<(Params, Option<Vec<u8>>), Rejection> {
    let layout = spec.layout();
    let digest = match (at, manifest.init_from) {
        (Some(digest), _) | (None, InitFrom::Version { digest } | InitFrom::File { digest }) => {
            digest
        }
        (None, InitFrom::Fresh { seed }) => {
            let params = Params::init(spec, seed);
            let bytes = params.to_safetensors(layout).map_err(|error| bad("model spec", error))?;
            return Ok((params, Some(bytes)));
        }
    };
    let bytes = found(find, &digest, "parameters")?;
    let params =
        Params::from_safetensors(layout, &bytes).map_err(|error| bad("parameters", error))?;
    Ok((params, None))
}

fn read_optimizer(
    manifest: &TaskManifest,
    spec: &CheckedSpec,
    state: Option<Digest>,
    find: Find<'_>,
) -> Result<Optimizer, Rejection> {
    let (rule, len) = (manifest.server_optimizer, spec.layout().trainable());
    let Some(digest) = state else { return Ok(Optimizer::new(rule, len)) };
    let bytes = found(find, &digest, "optimizer's state")?;
    Optimizer::from_bytes(rule, len, &bytes).map_err(|error| bad("optimizer's state", error))
}

fn found(find: Find<'_>, digest: &Digest, what: &str) -> Result<Vec<u8>, Rejection> {
    find(digest).ok_or_else(|| {
        let detail = format!("the {what} {digest} is not here: hand it in with the task");
        Rejection::new(codes::BLOB_MISSING, detail)
    })
}

fn bad(what: &str, error: impl std::fmt::Display) -> Rejection {
    Rejection::new(codes::BAD_BLOB, format!("{what}: {error}"))
}

fn to_field(spec: FieldSpec) -> Field {
    let FieldSpec { name, len, bound, frac_bits, weighted } = spec;
    Field { name, len, bound, frac_bits, weighted }
}
