//! Layers as a program: what a spec says of rows, said of tensors whose first axis is the batch.
//!
//! So that trained layers are written as ONNX and counted by the same rules as imported networks. The
//! other way, from a program to layers, is not here. Start at [`lower`].

use std::ops::Range;

use crate::architectures::build::{Builder, signed};
use crate::params::{Params, ParamsError};
use crate::program::op::{Binary, Fold, Pads, Pool, Softmax, Unary, Window};
use crate::program::{Constants, DType, Data, Port, Program, Role, TensorOp, Value};
use crate::spec::CheckedSpec;
use crate::spec::op::Op;

/// Layers as a program.
pub struct Lowered {
    /// The operations; a layer's answer has the layer's name.
    pub program: Program,
    /// The parameters under their names.
    pub constants: Constants,
    /// For each layer, its operations.
    pub nodes: Vec<Range<usize>>,
}

/// The program of layers with their values.
///
/// # Errors
/// [`ParamsError`] where the values belong to another layout.
pub fn lower(spec: &CheckedSpec, params: &Params) -> Result<Lowered, ParamsError> {
    params.check_layout(spec.layout())?;
    let mut b = Builder::default();
    for entry in spec.layout().entries() {
        let items = params.values()[entry.range()].to_vec();
        let value = Value::new(entry.shape.clone(), Data::F32(items));
        b.weight(&entry.name, value.expect("a layout's parameters are within the limits"));
    }
    let inputs = spec.spec().inputs.iter().map(|input| Port {
        name: input.name.clone(),
        dtype: DType::F32,
        shape: Some(std::iter::once(None).chain(input.shape.iter().map(|s| Some(*s))).collect()),
        role: Role::Rows,
    });
    let inputs: Vec<Port> = inputs.collect();
    let mut nodes = Vec::with_capacity(spec.n_nodes());
    let mut start = 0;
    for (at, node) in spec.nodes().iter().enumerate() {
        let read: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
        let rank = rank_of(spec, &node.inputs);
        layer(&mut b, &node.name, &node.op, &read, rank);
        let end = b.len();
        nodes.push(start..end);
        start = end;
        debug_assert!(spec.node_shape(at).is_some(), "every node has a shape");
    }
    let output = spec.nodes().last().map_or(String::new(), |node| node.name.clone());
    let (program, constants) = b.finish(Program {
        name: spec.spec().name.clone(),
        inputs,
        nodes: Vec::new(),
        outputs: vec![output],
        states: Vec::new(),
    });
    Ok(Lowered { program, constants, nodes })
}

/// Axes of what a layer reads, the batch among them.
fn rank_of(spec: &CheckedSpec, read: &[String]) -> usize {
    let Some(name) = read.first() else { return 1 };
    let made = spec.nodes().iter().position(|node| node.name == *name);
    let shape = match made {
        Some(at) => spec.node_shape(at).map_or(0, <[usize]>::len),
        None => {
            let input = spec.spec().inputs.iter().find(|input| input.name == *name);
            input.map_or(0, |input| input.shape.len())
        }
    };
    1 + shape
}

fn layer(b: &mut Builder, name: &str, op: &Op, read: &[&str], rank: usize) {
    let x = read.first().copied().unwrap_or_default();
    let own = |part: &str| format!("{name}.{part}");
    let (weight, bias) = (own("weight"), own("bias"));
    let scaled = |op: TensorOp, b: &mut Builder| b.push(name, op, &[x, &weight, &bias]);
    match op {
        Op::Linear { bias: has, .. } => linear(b, name, x, *has, rank),
        Op::Conv2d { stride, padding, groups, bias: has, .. } => {
            let op = TensorOp::Conv { window: window(stride, padding), groups: *groups };
            let all = [x, &weight, &bias];
            b.push(name, op, &all[..if *has { 3 } else { 2 }])
        }
        Op::MaxPool2d { kernel, stride, padding } => {
            let kind = Pool::Max { column_major: false };
            b.push(name, pool(kind, kernel, window(stride, padding)), &[x])
        }
        Op::AvgPool2d { kernel, stride } => {
            let kind = Pool::Average { count_pads: false };
            b.push(name, pool(kind, kernel, window(stride, &[0, 0])), &[x])
        }
        Op::GlobalAvgPool => {
            let op = TensorOp::GlobalPool(Pool::Average { count_pads: false });
            let pooled = b.push(&own("pooled"), op, &[x]);
            b.push(name, TensorOp::Flatten { axis: 1 }, &[&pooled])
        }
        Op::BatchNorm { eps } => {
            let (mean, var) = (own("running_mean"), own("running_var"));
            b.push(name, TensorOp::BatchNorm { eps: *eps }, &[x, &weight, &bias, &mean, &var])
        }
        Op::LayerNorm { eps } => scaled(TensorOp::LayerNorm { axis: -1, eps: *eps }, b),
        Op::GroupNorm { groups, eps } => {
            scaled(TensorOp::GroupNorm { groups: *groups, eps: *eps }, b)
        }
        Op::Relu => b.unary(name, Unary::Relu, x),
        Op::Gelu => b.unary(name, Unary::Gelu { tanh: false }, x),
        Op::Sigmoid => b.unary(name, Unary::Sigmoid, x),
        Op::Tanh => b.unary(name, Unary::Tanh, x),
        Op::Silu => {
            let gate = b.unary(&own("gate"), Unary::Sigmoid, x);
            b.push(name, TensorOp::Binary(Binary::Mul), &[x, &gate])
        }
        Op::Softmax => {
            let op = TensorOp::Softmax { kind: Softmax::Softmax, axis: -1, flat: false };
            b.push(name, op, &[x])
        }
        Op::Flatten => b.push(name, TensorOp::Flatten { axis: 1 }, &[x]),
        Op::Reshape { shape } => {
            let sides: Vec<i64> =
                std::iter::once(0).chain(shape.iter().map(|side| signed(*side))).collect();
            b.reshape(name, x, &sides)
        }
        Op::Add => match read {
            [a, c] => b.add(name, a, c),
            all => b.push(name, TensorOp::Fold(Fold::Sum), all),
        },
        Op::Concat { axis } => b.push(name, TensorOp::Concat { axis: signed(axis + 1) }, read),
    };
}

/// PyTorch's `[out, in]` matrix as it is, or turned where rows are sequences.
fn linear(b: &mut Builder, name: &str, x: &str, has_bias: bool, rank: usize) -> String {
    let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
    if rank == 2 {
        let op = TensorOp::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        let all = [x, &weight, &bias];
        return b.push(name, op, &all[..if has_bias { 3 } else { 2 }]);
    }
    let turned = b.transpose(&format!("{name}.turned"), &weight, &[1, 0]);
    if !has_bias {
        return b.matmul(name, x, &turned);
    }
    let product = b.matmul(&format!("{name}.product"), x, &turned);
    b.add(name, &product, &bias)
}

fn window(stride: &[usize; 2], padding: &[usize; 2]) -> Window {
    let pads = Pads::Explicit([*padding, *padding].concat());
    Window { strides: stride.to_vec(), dilations: Vec::new(), pads }
}

fn pool(kind: Pool, kernel: &[usize; 2], window: Window) -> TensorOp {
    TensorOp::Pool { kind, kernel: kernel.to_vec(), window, ceil: false }
}

#[cfg(all(test, feature = "engine"))]
mod tests {
    use super::*;
    use crate::network::Network;
    use crate::program::figures::{Sizes, sample};
    use crate::spec::ModelSpec;

    /// McMahan's CNN, and one network with every other layer.
    const SPECS: [&str; 3] = [
        r#"{"name":"cnn","inputs":[{"name":"x","shape":[1,28,28]}],"nodes":[
        {"name":"conv1","op":{"conv2d":{"channels":32,"kernel":[5,5],"padding":[2,2]}},"inputs":["x"]},
        {"name":"relu1","op":"relu","inputs":["conv1"]},
        {"name":"pool1","op":{"max_pool2d":{"kernel":[2,2],"stride":[2,2]}},"inputs":["relu1"]},
        {"name":"conv2","op":{"conv2d":{"channels":64,"kernel":[5,5],"padding":[2,2]}},"inputs":["pool1"]},
        {"name":"relu2","op":"relu","inputs":["conv2"]},
        {"name":"pool2","op":{"max_pool2d":{"kernel":[2,2],"stride":[2,2]}},"inputs":["relu2"]},
        {"name":"flat","op":"flatten","inputs":["pool2"]},
        {"name":"fc1","op":{"linear":{"units":512}},"inputs":["flat"]},
        {"name":"relu3","op":"relu","inputs":["fc1"]},
        {"name":"fc2","op":{"linear":{"units":10}},"inputs":["relu3"]}]}"#,
        r#"{"name":"all","inputs":[{"name":"x","shape":[4,8,6]}],"nodes":[
        {"name":"c","op":{"conv2d":{"channels":8,"kernel":[3,3],"stride":[2,1],"padding":[1,1],"groups":4,"bias":false}},"inputs":["x"]},
        {"name":"bn","op":{"batch_norm":{}},"inputs":["c"]},
        {"name":"gn","op":{"group_norm":{"groups":2}},"inputs":["bn"]},
        {"name":"si","op":"silu","inputs":["gn"]},
        {"name":"sum","op":"add","inputs":["si","c","bn"]},
        {"name":"cat","op":{"concat":{"axis":0}},"inputs":["sum","gn"]},
        {"name":"av","op":{"avg_pool2d":{"kernel":[2,2],"stride":[1,2]}},"inputs":["cat"]},
        {"name":"th","op":"tanh","inputs":["av"]},
        {"name":"gp","op":"global_avg_pool","inputs":["th"]},
        {"name":"fc","op":{"linear":{"units":3,"bias":false}},"inputs":["gp"]},
        {"name":"sm","op":"softmax","inputs":["fc"]}]}"#,
        r#"{"name":"rows","inputs":[{"name":"x","shape":[12]}],"nodes":[
        {"name":"re","op":{"reshape":{"shape":[3,4]}},"inputs":["x"]},
        {"name":"l1","op":{"linear":{"units":5}},"inputs":["re"]},
        {"name":"ln","op":{"layer_norm":{}},"inputs":["l1"]},
        {"name":"ge","op":"gelu","inputs":["ln"]},
        {"name":"l2","op":{"linear":{"units":5,"bias":false}},"inputs":["ge"]},
        {"name":"ad","op":"add","inputs":["l2","l1"]},
        {"name":"sg","op":"sigmoid","inputs":["ad"]}]}"#,
    ];

    #[test]
    fn layers_and_their_program_answer_alike_and_so_does_its_onnx_file() {
        for text in SPECS {
            let spec = ModelSpec::from_json(text.as_bytes()).unwrap().check().unwrap();
            let params = Params::init(&spec, 3);
            let lowered = lower(&spec, &params).unwrap();
            assert_eq!(lowered.nodes.len(), spec.n_nodes());
            assert_eq!(lowered.nodes.last().unwrap().end, lowered.program.nodes.len());
            let program = lowered.program.check(lowered.constants).unwrap();
            assert_eq!(program.parameters(), spec.layout().len());
            let rows = sample(&program.program().inputs, Sizes { rows: 3, length: 1 }).unwrap();
            let own = Network::layers(&spec, &params).unwrap();
            let end = own.n_nodes();
            let at = own.crossing(0, rows.clone()).unwrap();
            let want = own.forward(end, &at, &mut own.start(0..end)).unwrap();
            let bytes = crate::onnx::export(&program).unwrap();
            let again = crate::onnx::import(&bytes, &|_, _, _| Err("alone".into())).unwrap();
            let again = again.program.check(again.constants).unwrap();
            for got in [program.run(rows.clone()).unwrap(), again.run(rows).unwrap()] {
                assert_eq!(got[0].shape(), want.values()[0].shape());
                for (got, want) in got[0].to_f64s().iter().zip(want.values()[0].to_f64s()) {
                    assert!((got - want).abs() < 1e-5, "{}: {got}, {want}", spec.spec().name);
                }
            }
        }
    }

    #[test]
    fn values_of_another_layout_are_refused() {
        let specs =
            SPECS.map(|text| ModelSpec::from_json(text.as_bytes()).unwrap().check().unwrap());
        assert!(lower(&specs[0], &Params::init(&specs[1], 1)).is_err());
    }
}
