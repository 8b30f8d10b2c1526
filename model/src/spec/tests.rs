//! Specs that are refused, and why; canonical form; garbage.

use proptest::prelude::*;

use super::*;

fn toml(nodes: &str) -> Result<CheckedSpec, SpecError> {
    let text = format!(
        "name = \"m\"\ninputs = [{{ name = \"x\", shape = [4, 8, 8] }}]\nnodes = [{nodes}]"
    );
    ModelSpec::from_toml(&text)?.check()
}

fn node(name: &str, op: &str, inputs: &str) -> String {
    format!("{{ name = \"{name}\", op = {op}, inputs = [{inputs}] }},")
}

#[test]
fn infers_the_shapes_of_a_small_residual_network() {
    let spec = toml(&[
        node("stem", "{ conv2d = { channels = 6, kernel = [3, 3], stride = [2, 2], padding = [1, 1] } }", "\"x\""),
        node("norm", "{ group_norm = { groups = 3 } }", "\"stem\""),
        node("act", "\"relu\"", "\"norm\""),
        node("body", "{ conv2d = { channels = 6, kernel = [3, 3], padding = [1, 1], groups = 2, bias = false } }", "\"act\""),
        node("bn", "{ batch_norm = {} }", "\"body\""),
        node("sum", "\"add\"", "\"bn\", \"act\""),
        node("max", "{ max_pool2d = { kernel = [2, 2], stride = [2, 2] } }", "\"sum\""),
        node("avg", "{ avg_pool2d = { kernel = [2, 2], stride = [2, 2] } }", "\"sum\""),
        node("both", "{ concat = { axis = 0 } }", "\"max\", \"avg\""),
        node("flat", "\"flatten\"", "\"both\""),
        node("fc", "{ linear = { units = 2 } }", "\"flat\""),
    ].concat())
    .unwrap();
    let shapes: Vec<&[usize]> = (0..spec.n_nodes()).map(|n| spec.node_shape(n).unwrap()).collect();
    assert_eq!(
        shapes,
        [
            &[6, 4, 4][..],
            &[6, 4, 4],
            &[6, 4, 4],
            &[6, 4, 4],
            &[6, 4, 4],
            &[6, 4, 4],
            &[6, 2, 2],
            &[6, 2, 2],
            &[12, 2, 2],
            &[48],
            &[2]
        ]
    );
    let names: Vec<&str> = spec.layout().entries().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "stem.weight",
            "stem.bias",
            "norm.weight",
            "norm.bias",
            "body.weight",
            "bn.weight",
            "bn.bias",
            "fc.weight",
            "fc.bias",
            "bn.running_mean",
            "bn.running_var"
        ]
    );
    assert_eq!(spec.layout().entry("body.weight").unwrap().shape, [6, 3, 3, 3]);
    assert_eq!(spec.layout().len() - spec.layout().trainable(), 12);
}

#[test]
fn canonical_form_and_digest_do_not_depend_on_how_it_was_written() {
    let short = toml(&node("fc", "{ layer_norm = {} }", "\"x\"")).unwrap();
    let long = toml(&node("fc", "{ layer_norm = { eps = 0.00001 } }", "\"x\"")).unwrap();
    assert_eq!(short.digest(), long.digest());
    let again = CheckedSpec::from_canonical(short.canonical()).unwrap();
    assert_eq!(again, short);
    let mut spaced = short.canonical().to_vec();
    spaced.push(b'\n');
    assert_eq!(CheckedSpec::from_canonical(&spaced), Err(SpecError::NotCanonical));
    let other = toml(&node("fc", "{ layer_norm = { eps = 0.00002 } }", "\"x\"")).unwrap();
    assert_ne!(short.digest(), other.digest());
}

/// A version published once must read as the same version for ever.
#[test]
fn the_canonical_form_is_pinned() {
    let spec =
        toml(&node("fc", "{ conv2d = { channels = 2, kernel = [1, 1] } }", "\"x\"")).unwrap();
    assert_eq!(
        std::str::from_utf8(spec.canonical()).unwrap(),
        r#"{"name":"m","inputs":[{"name":"x","shape":[4,8,8]}],"nodes":[{"name":"fc","op":{"conv2d":{"channels":2,"kernel":[1,1],"stride":[1,1],"padding":[0,0],"groups":1,"bias":true}},"inputs":["x"]}]}"#
    );
}

#[test]
fn refusals_name_the_node_and_the_way_out() {
    let conv = |settings: &str| format!("{{ conv2d = {{ {settings} }} }}");
    for (op, inputs, part) in [
        ("\"rely\"".to_owned(), "\"x\"", "unknown variant `rely`"),
        ("{ linear = { unit = 3 } }".into(), "\"x\"", "keys in table: unit"),
        ("{ linear = { units = -1 } }".into(), "\"x\"", "invalid value"),
        ("{ linear = { units = 3 } }".into(), "\"x\"", "put `flatten` before it"),
        ("\"relu\"".into(), "\"y\"", "it reads `y`"),
        ("\"relu\"".into(), "\"n\"", "it reads `n`"),
        ("\"relu\"".into(), "", "it reads 0 values"),
        ("\"relu\"".into(), "\"x\", \"x\"", "relu reads one value, got 2"),
        ("\"add\"".into(), "\"x\"", "two or more"),
        ("{ concat = { axis = 3 } }".into(), "\"x\", \"x\"", "axis 3 is not an axis"),
        ("{ reshape = { shape = [5, 5] } }".into(), "\"x\"", "cannot reshape"),
        ("{ reshape = { shape = [0] } }".into(), "\"x\"", "axis of 0"),
        ("{ reshape = { shape = [] } }".into(), "\"x\"", "0 axes"),
        ("{ reshape = { shape = [4, 2, 4, 8] } }".into(), "\"x\"", "4 axes"),
        (conv("channels = 2, kernel = [9, 9]"), "\"x\"", "larger than the padded image"),
        (conv("channels = 2, kernel = [3, 3], stride = [0, 1]"), "\"x\"", "stride [0, 1]"),
        (conv("channels = 2, kernel = [3, 3], padding = [3, 0]"), "\"x\"", "less than the kernel"),
        (conv("channels = 3, kernel = [3, 3], groups = 2"), "\"x\"", "3 output channels"),
        (conv("channels = 3, kernel = [3, 3], groups = 0"), "\"x\"", "into 0 groups"),
        (conv("channels = 0, kernel = [3, 3]"), "\"x\"", "0 output channels"),
        (conv("channels = 9223372036854775807, kernel = [3, 3]"), "\"x\"", "use 1 to"),
        (
            "{ max_pool2d = { kernel = [2, 2], stride = [2, 2], padding = [2, 0] } }".into(),
            "\"x\"",
            "half the kernel",
        ),
        ("{ avg_pool2d = { kernel = [0, 2], stride = [2, 2] } }".into(), "\"x\"", "kernel [0, 2]"),
        ("{ group_norm = { groups = 3 } }".into(), "\"x\"", "4 channels"),
        ("{ layer_norm = { eps = 0.0 } }".into(), "\"x\"", "eps is 0"),
        ("{ layer_norm = { eps = nan } }".into(), "\"x\"", "eps is NaN"),
    ] {
        let error = toml(&node("n", &op, inputs)).unwrap_err().to_string();
        assert!(error.contains(part), "{op}: {error}");
        let syntax = error.contains("cannot be read");
        assert!(syntax || error.contains("node `n`"), "{op}: {error}");
    }
}

#[test]
fn names_are_unique_and_every_value_is_read() {
    let relu = |name: &str, input: &str| node(name, "\"relu\"", &format!("\"{input}\""));
    for (nodes, part) in [
        (relu("x", "x"), "its name is taken"),
        (relu("a", "x") + &relu("a", "a"), "its name is taken"),
        (relu("a", "x") + &relu("b", "x"), "node `a`: nothing reads it"),
        (relu("a b", "x"), "its name is not a name"),
        (relu("", "x"), "its name is not a name"),
        (relu(".a", "x"), "its name is not a name"),
        (relu(&"a".repeat(200), "x"), "its name is not a name"),
        (String::new(), "at least one input and one node"),
    ] {
        let error = toml(&nodes).unwrap_err().to_string();
        assert!(error.contains(part), "{nodes}: {error}");
    }
    let unread = br#"{"name":"m","inputs":[{"name":"x","shape":[2]},{"name":"z","shape":[2]}],
        "nodes":[{"name":"a","op":"relu","inputs":["x"]}]}"#;
    let error = ModelSpec::from_json(unread).unwrap().check().unwrap_err().to_string();
    assert!(error.contains("input `z`: nothing reads it"), "{error}");
}

#[test]
fn sizes_are_limited_before_anything_is_allocated() {
    let spec = |shape: &str, units: usize| {
        let text = format!(
            r#"{{"name":"m","inputs":[{{"name":"x","shape":{shape}}}],
            "nodes":[{{"name":"fc","op":{{"linear":{{"units":{units}}}}},"inputs":["x"]}}]}}"#
        );
        ModelSpec::from_json(text.as_bytes()).unwrap().check().unwrap_err().to_string()
    };
    assert!(spec("[1048576]", 1_048_576).contains("make it smaller"));
    assert!(spec("[4294967296]", 1).contains("use 1 to"));
    assert!(spec("[1048576, 1048576]", 1).contains("elements"));
    let many = (0..2000).map(|i| node(&format!("n{i}"), "\"relu\"", "\"x\"")).collect::<String>();
    assert!(toml(&many).unwrap_err().to_string().contains("2000 nodes"));
    let long = "#".repeat(2 << 20);
    assert!(matches!(ModelSpec::from_toml(&long), Err(SpecError::TooLarge { .. })));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in any::<Vec<u8>>(), text in ".*") {
        prop_assert!(CheckedSpec::from_canonical(&bytes).is_err());
        prop_assert!(ModelSpec::from_toml(&text).and_then(ModelSpec::check).is_err());
    }

    /// Near-misses: a sound text with one byte changed is either refused or sound.
    #[test]
    fn damaged_specs_never_panic(at in any::<prop::sample::Index>(), byte in 0x20u8..0x7f) {
        let spec = toml(&(node("c", "{ conv2d = { channels = 2, kernel = [3, 3], padding = [1, 1] } }", "\"x\"")
            + &node("p", "{ max_pool2d = { kernel = [2, 2], stride = [2, 2] } }", "\"c\""))).unwrap();
        let mut bytes = spec.canonical().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = CheckedSpec::from_canonical(&bytes) {
            prop_assert_eq!(read.canonical(), &bytes[..]);
        }
    }
}
