//! Models built here, honest and hostile ones, read and run.

use super::proto::{
    AttributeProto, Dimension, Entry, GraphProto, ModelProto, NodeProto, OperatorSetId, ShapeProto,
    TensorProto, TensorType, TypeProto, ValueInfoProto, kind,
};
use super::*;
use crate::program::{CheckedProgram, Data};
use proptest::prelude::*;

fn port(name: &str, elem_type: i32, sides: &[i64]) -> ValueInfoProto {
    let dim = |&side: &i64| Dimension { dim_value: Some(side), dim_param: None };
    let shape = Some(ShapeProto { dim: sides.iter().map(dim).collect() });
    let tensor_type = Some(TensorType { elem_type, shape });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}

fn node(op: &str, input: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let input = input.iter().map(|&name| name.into()).collect();
    NodeProto {
        input,
        output: vec![output.into()],
        op_type: op.into(),
        attribute,
        ..NodeProto::default()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, kind: kind::INT, ..AttributeProto::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let ints = ints.to_vec();
    AttributeProto { name: name.into(), ints, kind: kind::INTS, ..AttributeProto::default() }
}

fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: 1,
        name: name.into(),
        float_data: data.to_vec(),
        ..TensorProto::default()
    }
}

fn model(opset: i64, nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> ModelProto {
    let output = nodes.last().map(|node| node.output[0].clone()).unwrap_or_default();
    let graph = GraphProto {
        node: nodes,
        name: "test".into(),
        initializer: constants,
        input: vec![port("x", 1, &[1, 3])],
        output: vec![port(&output, 1, &[])],
        sparse_initializer: Vec::new(),
    };
    let opset_import = vec![OperatorSetId { domain: String::new(), version: opset }];
    ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..ModelProto::default() }
}

fn alone(name: &str, _: u64, _: Option<u64>) -> Result<Vec<u8>, String> {
    Err(format!("`{name}` is not there"))
}

fn read(model: &ModelProto) -> Result<Imported, OnnxError> {
    import(&model.encode_to_vec(), &alone)
}

fn checked(model: &ModelProto) -> CheckedProgram {
    let imported = read(model).unwrap();
    imported.program.check(imported.constants).unwrap()
}

fn run(model: &ModelProto, x: &[f32]) -> Vec<f32> {
    let x = Value::new(vec![1, 3], Data::F32(x.to_vec())).unwrap();
    match checked(model).run(vec![x]).unwrap().remove(0).into_parts().1 {
        Data::F32(items) => items,
        _ => panic!("another type"),
    }
}

#[test]
fn a_layer_is_read_and_runs() {
    let gemm = node("Gemm", &["x", "w", "b"], "y", vec![int("transB", 1)]);
    let relu = node("Relu", &["y"], "z", vec![]);
    let w = floats("w", &[2, 3], &[1.0, 0.0, -1.0, 2.0, 2.0, 2.0]);
    let model = model(17, vec![gemm, relu], vec![w, floats("b", &[2], &[0.5, -100.0])]);
    assert_eq!(run(&model, &[3.0, 2.0, 1.0]), [2.5, 0.0]);
}

#[test]
fn older_forms_mean_the_same_as_newer_ones() {
    let axes = TensorProto {
        dims: vec![1],
        data_type: 7,
        name: "axes".into(),
        int64_data: vec![1],
        ..TensorProto::default()
    };
    let keep = int("keepdims", 0);
    let old = node("ReduceMean", &["x"], "y", vec![ints("axes", &[1]), keep.clone()]);
    let new = node("ReduceMean", &["x", "axes"], "y", vec![keep]);
    let (old, new) = (model(13, vec![old], vec![]), model(18, vec![new], vec![axes]));
    assert_eq!(run(&old, &[1.0, 2.0, 6.0]), [3.0]);
    assert_eq!(run(&new, &[1.0, 2.0, 6.0]), [3.0]);
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let refused = |opset, node| read(&model(opset, vec![node], vec![])).err().unwrap();
    let error = refused(17, node("Frobnicate", &["x"], "y", vec![]));
    assert!(error.is_unsupported());
    assert_eq!(error.to_string(), "node `y` (Frobnicate): the operator is not known here");
    let error = refused(17, node("Relu", &["x"], "y", vec![int("steep", 1)]));
    assert!(error.to_string().contains("attribute `steep`"), "{error}");
    let wrong = ints("axis", &[1]);
    let error = refused(17, node("Flatten", &["x"], "y", vec![wrong]));
    assert!(matches!(error, OnnxError::Attribute { .. }) && !error.is_unsupported());
    for opset in [1, 6, 99] {
        assert_eq!(refused(opset, node("Relu", &["x"], "y", vec![])), OnnxError::Opset(opset));
    }
    let mut foreign = node("Relu", &["x"], "y", vec![]);
    foreign.domain = "com.example".into();
    assert!(refused(17, foreign).to_string().contains("com.example"));
}

#[test]
fn tensors_beside_the_model_are_read_from_there_and_from_nowhere_else() {
    let beside = |location: &str| {
        let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
        let mut tensor = floats("w", &[1, 3], &[]);
        tensor.data_location = 1;
        tensor.external_data =
            vec![entry("location", location), entry("offset", "8"), entry("length", "12")];
        model(17, vec![node("Add", &["x", "w"], "y", vec![])], vec![tensor])
    };
    let file = |name: &str, offset: u64, length: Option<u64>| {
        assert_eq!((name, offset, length), ("weights/w.bin", 8, Some(12)));
        Ok([1.0f32, 2.0, 3.0].iter().flat_map(|item| item.to_le_bytes()).collect())
    };
    let bytes = beside("weights/w.bin").encode_to_vec();
    assert!(import(&bytes, &file).is_ok());
    for elsewhere in ["../w.bin", "/etc/passwd", "a/../../b", "", "c:\\w.bin"] {
        let error = read(&beside(elsewhere)).err().unwrap();
        assert!(error.to_string().contains("is not beside the model"), "{elsewhere}: {error}");
    }
}

#[test]
fn tensors_that_lie_about_themselves_are_refused() {
    let add = || vec![node("Add", &["x", "w"], "y", vec![])];
    let refused = |tensor| read(&model(17, add(), vec![tensor])).err().unwrap().to_string();
    assert!(refused(floats("w", &[1, 4], &[1.0; 3])).contains("does not hold 3 elements"));
    assert!(refused(floats("w", &[-1], &[])).contains("a side of -1"));
    assert!(refused(floats("w", &[1 << 40, 1 << 40], &[])).contains("more than"));
    let mut raw = floats("w", &[3], &[]);
    raw.raw_data = vec![0; 11];
    assert!(refused(raw).contains("11 bytes do not hold 3 elements of 4"));
    let mut half = floats("w", &[3], &[]);
    half.data_type = 10;
    assert!(refused(half).contains("float16"));
}

#[test]
fn order_and_names_are_checked() {
    let relu = |from: &str, to: &str| node("Relu", &[from], to, vec![]);
    let fails = |nodes| {
        let imported = read(&model(17, nodes, vec![])).unwrap();
        imported.program.check(imported.constants).err().unwrap().to_string()
    };
    assert!(fails(vec![relu("later", "y"), relu("x", "later")]).contains("nothing before it"));
    assert!(fails(vec![relu("x", "y"), relu("x", "y")]).contains("given already"));
    assert!(fails(vec![relu("x", "x")]).contains("given already"));
}

#[test]
fn what_hostile_files_ask_for_is_refused_when_it_runs() {
    let big = |name: &str, data: Vec<i64>| TensorProto {
        dims: vec![i64::try_from(data.len()).unwrap()],
        data_type: 7,
        name: name.into(),
        int64_data: data,
        ..TensorProto::default()
    };
    let huge = i64::MAX;
    for (op, data) in [
        ("Tile", vec![huge, huge]),
        ("Expand", vec![huge, huge]),
        ("Reshape", vec![huge, 2]),
        ("Pad", vec![huge, huge, huge, huge]),
        ("Unsqueeze", vec![huge]),
        ("CenterCropPad", vec![i64::MIN, huge]),
        ("TopK", vec![huge]),
        ("Gather", vec![huge]),
        ("Slice", vec![huge]),
    ] {
        let node = node(op, &["x", "n"], "y", vec![]);
        let program = checked(&model(18, vec![node], vec![big("n", data)]));
        let x = Value::new(vec![1, 3], Data::F32(vec![1.0; 3])).unwrap();
        assert!(program.run(vec![x]).is_err(), "{op}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = import(&bytes, &alone);
        let _ = read_tensor(&bytes);
    }

    #[test]
    fn no_garbled_model_panics(at in 0usize..400, byte in any::<u8>()) {
        let conv = node("Conv", &["x", "w"], "y", vec![ints("strides", &[1]), int("group", 1)]);
        let pool = node("MaxPool", &["y"], "z", vec![ints("kernel_shape", &[1])]);
        let mut bytes = model(17, vec![conv, pool], vec![floats("w", &[1, 1, 1], &[2.0])]).encode_to_vec();
        let place = at % bytes.len();
        bytes[place] = byte;
        if let Ok(imported) = import(&bytes, &alone)
            && let Ok(program) = imported.program.check(imported.constants)
        {
            let x = Value::new(vec![1, 3], Data::F32(vec![1.0; 3])).unwrap();
            let _ = program.run(vec![x]);
        }
    }
}
