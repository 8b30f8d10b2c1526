//! A task as people write it: `task.toml` that names its model and plans by file, made into the manifest that names them by
//! digest, and the blobs themselves.

use std::path::Path;

use anyhow::Context as _;
use koinon_model::features::FeaturePlan;
use koinon_model::plan::TrainingPlan;
use koinon_model::spec::{CheckedSpec, ModelSpec};
use koinon_proto::{Digest, TaskManifest};

use super::privacy;
use crate::exit::{Exit, OrExit as _, fail};

/// The file's name in a task's folder.
pub(crate) const FILE: &str = "task.toml";

/// A task that was read, with everything it names.
pub(crate) struct Task {
    pub(crate) manifest: TaskManifest,
    /// Spec, plans and start parameters, verbatim as they will be hashed.
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) spec: Option<CheckedSpec>,
    pub(crate) features: Option<FeaturePlan>,
    #[cfg_attr(
        not(feature = "demo"),
        expect(dead_code, reason = "only the demo's referee trains")
    )]
    pub(crate) training: Option<TrainingPlan>,
    /// What a private task's noise does, in words.
    pub(crate) planned: Option<String>,
}

impl Task {
    /// The digest that names the task.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest.to_canonical_json())
    }
}

/// Reads a task file (or a folder with one) and the files it names.
pub(crate) fn read(path: &Path) -> anyhow::Result<Task> {
    let path = if path.is_dir() { path.join(FILE) } else { path.to_path_buf() };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(&path)
        .with_context(|| {
            format!("{name} cannot be read; `koinon task new` makes one with comments")
        })
        .or_exit(Exit::Config)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut reader =
        Reader { folder, blobs: Vec::new(), spec: None, features: None, training: None };
    let lines: Vec<String> = text.lines().map(|l| reader.line(l)).collect::<anyhow::Result<_>>()?;
    // Line by line, so that the numbers in messages are those of the file that the person wrote.
    let manifest =
        TaskManifest::parse_toml(&(lines.join("\n") + "\n"), &name).or_exit(Exit::Config)?;
    let Reader { blobs, spec, features, training, .. } = reader;
    let mut task = Task { manifest, blobs, spec, features, training, planned: None };
    fits(&task, &name)?;
    privacy::settle(&mut task, &name)?;
    Ok(task)
}

struct Reader<'a> {
    folder: &'a Path,
    blobs: Vec<Vec<u8>>,
    spec: Option<CheckedSpec>,
    features: Option<FeaturePlan>,
    training: Option<TrainingPlan>,
}

impl Reader<'_> {
    /// One line with the file it names replaced by that file's digest.
    fn line(&mut self, line: &str) -> anyhow::Result<String> {
        let key = line.split('=').next().unwrap_or_default().trim();
        if !["model", "features", "training", "init_from"].contains(&key) {
            return Ok(line.to_owned());
        }
        let mut quoted = line.split('"');
        let (Some(_), Some(value)) = (quoted.next(), quoted.next()) else {
            return Ok(line.to_owned());
        };
        if value.parse::<Digest>().is_ok() {
            return Ok(line.to_owned());
        }
        let blob = self.blob(key, value)?;
        let digest = Digest::of(&blob).to_string();
        self.blobs.push(blob);
        Ok(line.replacen(&format!("\"{value}\""), &format!("\"{digest}\""), 1))
    }

    fn blob(&mut self, key: &str, file: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.folder.join(file);
        let shown = path.display().to_string();
        let bytes = std::fs::read(&path)
            .with_context(|| format!("`{key}` names {shown}, which cannot be read"))
            .or_exit(Exit::Config)?;
        let text = || {
            String::from_utf8(bytes.clone())
                .with_context(|| format!("{shown} is no text"))
                .or_exit(Exit::Config)
        };
        match key {
            "model" => {
                let spec = ModelSpec::from_toml(&text()?).and_then(ModelSpec::check);
                let spec = spec.with_context(|| shown.clone()).or_exit(Exit::Config)?;
                let canonical = spec.canonical().to_vec();
                self.spec = Some(spec);
                Ok(canonical)
            }
            "features" => {
                let plan = FeaturePlan::from_toml(&text()?)
                    .with_context(|| shown.clone())
                    .or_exit(Exit::Config)?;
                let canonical = plan.canonical_bytes();
                self.features = Some(plan);
                Ok(canonical)
            }
            "training" => {
                let plan = TrainingPlan::from_toml(&text()?)
                    .with_context(|| shown.clone())
                    .or_exit(Exit::Config)?;
                let canonical = plan.canonical();
                self.training = Some(plan);
                Ok(canonical)
            }
            _ => Ok(bytes),
        }
    }
}

/// What the parts must have in common.
fn fits(task: &Task, name: &str) -> anyhow::Result<()> {
    if let (Some(spec), Some(features)) = (&task.spec, &task.features) {
        let (wants, gets) = (spec.input_width(), features.width());
        if wants != gets {
            return Err(fail(
                Exit::Config,
                format!(
                    "{name}: the model takes {wants} numbers a row, the feature plan makes {gets}; \
                     set the model's input to {gets}, or change the columns"
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named_with_its_key() {
        let dir = std::env::temp_dir().join(format!("koinon-task-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(FILE), "name = \"x\"\nmodel = \"nowhere.toml\"\n").unwrap();
        let error = read(&dir).err().unwrap();
        assert_eq!(crate::exit::code_of(&error), 3);
        assert!(format!("{error:#}").contains("`model` names"), "{error:#}");
        std::fs::write(dir.join(FILE), "name = \"x\"\n\nrouns = 3\n").unwrap();
        let error = format!("{:#}", read(&dir).err().unwrap());
        assert!(error.contains("line 3") && error.contains("did you mean 'rounds'"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
