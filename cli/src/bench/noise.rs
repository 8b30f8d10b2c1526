//! Samples of the discrete noise that each site adds, one after the other on one core.

use koinon_aggregation::noise::{NoisePlan, draw};

use super::figure::{Figure, Limit, Measured};
use super::{Options, Progress, cpu};

const SAMPLES: usize = 1 << 20;
/// A share as a session of 1,000 sites would plan it, in squared units.
const VARIANCE: f64 = 1e9;

pub(crate) fn measure(options: &Options, progress: &Progress) -> anyhow::Result<Measured> {
    progress.phase("noise", 1);
    let plan = NoisePlan::at_least(VARIANCE)?;
    let samples = if options.quick { SAMPLES / 16 } else { SAMPLES };
    let mut out = vec![0; samples];
    let ns = cpu::ns_per_unit(5, || {
        draw(plan, [7; 32], 0, &mut out);
        out.len() as u64
    });
    progress.step(1);
    let note = format!("variance {:.2e} a sample", plan.variance());
    let figure = Figure::new("noise_ns_per_sample", ns, "ns", Limit::AtMost(20.0)).with_note(note);
    Ok(Measured { figures: vec![figure], breakdowns: Vec::new() })
}
