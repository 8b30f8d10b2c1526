use koinon_model::onnx;
use koinon_model::program::{Data, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
fn nums(v: &Value) -> Vec<f64> {
    match v.data() {
        Data::F32(x) => x.iter().map(|&x| x as f64).collect(),
        Data::F64(x) => x.clone(),
        Data::I8(x) => x.iter().map(|&x| x as f64).collect(),
        Data::I16(x) => x.iter().map(|&x| x as f64).collect(),
        Data::I32(x) => x.iter().map(|&x| x as f64).collect(),
        Data::I64(x) => x.iter().map(|&x| x as f64).collect(),
        Data::U8(x) => x.iter().map(|&x| x as f64).collect(),
        Data::U16(x) => x.iter().map(|&x| x as f64).collect(),
        Data::U32(x) => x.iter().map(|&x| x as f64).collect(),
        Data::U64(x) => x.iter().map(|&x| x as f64).collect(),
        Data::Bool(x) => x.iter().map(|&x| x as u8 as f64).collect(),
        _ => vec![],
    }
}
fn case(dir: &Path) -> Result<(), String> {
    let bytes = fs::read(dir.join("model.onnx")).unwrap();
    let imp = onnx::import(&bytes, &|_, _, _| Err("none".into())).map_err(|e| format!("{}: {e}", if e.is_unsupported() { "unsupported" } else { "bad" }))?;
    let prog = imp.program.check(imp.constants).map_err(|e| format!("check: {e}"))?;
    for set in 0.. {
        let d = dir.join(format!("test_data_set_{set}"));
        if !d.exists() { break; }
        let read = |kind: &str| -> Result<Vec<Value>, String> {
            let mut out = vec![];
            for i in 0.. {
                let p = d.join(format!("{kind}_{i}.pb"));
                if !p.exists() { break; }
                out.push(onnx::read_tensor(&fs::read(p).unwrap()).map_err(|e| format!("unsupported: data {e}"))?);
            }
            Ok(out)
        };
        let (inp, want) = (read("input")?, read("output")?);
        let got = prog.run(inp).map_err(|e| format!("{}: {e}", if matches!(e, koinon_model::program::ProgramError::Op{error: koinon_model::program::OpError::Unsupported(_), ..}) {"unsupported"} else {"run"}))?;
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            if g.shape() != w.shape() { return Err(format!("WRONG shape out {i} {:?} want {:?}", g.shape(), w.shape())); }
            if g.dtype() != w.dtype() { return Err(format!("WRONG dtype out {i}")); }
            for (j, (a, b)) in nums(g).iter().zip(nums(w)).enumerate() {
                let ok = (a.is_nan() && b.is_nan()) || *a == b || (a - b).abs() <= 1e-4 + 1e-3 * b.abs();
                if !ok { return Err(format!("WRONG out {i}[{j}] got {a} want {b}")); }
            }
        }
    }
    Ok(())
}
fn main() {
    let root = std::env::args().nth(1).unwrap();
    let all = std::env::args().nth(2).is_some();
    let mut tally: BTreeMap<String, u32> = BTreeMap::new();
    let mut dirs: Vec<_> = fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.sort();
    for dir in dirs {
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        if name.contains("_expanded") { continue; }
        let r = std::panic::catch_unwind(|| case(&dir)).unwrap_or(Err("PANIC".into()));
        let kind = match &r { Ok(()) => "pass".into(), Err(e) => e.split([':', ' ']).next().unwrap().to_owned() };
        *tally.entry(kind.clone()).or_default() += 1;
        if let Err(e) = r { if all || kind != "unsupported" { println!("{name}: {e}"); } }
    }
    println!("{tally:?}");
}
