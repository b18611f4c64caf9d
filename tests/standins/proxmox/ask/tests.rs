use serde_json::{Value, json};

use super::super::{ProxmoxArgs, Stage};
use super::{Answer, Refusal, dispatch};

fn stage() -> Stage {
    let address = "127.0.0.1:0".parse().unwrap();
    Stage::new(ProxmoxArgs {
        listen: address,
        control_listen: address,
        token_id: "ez@pve!portal".to_owned(),
        token_secret: "secret".to_owned(),
        ca_file: "unused".into(),
        nodes: vec!["pve1".to_owned(), "pve2".to_owned()],
        templates: vec![9000],
        shared_storage: "shared".to_owned(),
        time_scale: 0.0,
    })
    .unwrap()
}

fn blamed(answer: Answer) -> Vec<(String, String)> {
    match answer {
        Err(Refusal::Params(errors)) => errors.into_iter().collect(),
        other => panic!("expected parameters to be blamed, not {other:?}"),
    }
}

const CONFIG: &str = "/api2/json/nodes/pve1/qemu/101/config";

#[tokio::test]
async fn parameters_outside_the_table_are_refused_by_name() {
    let clone = |form| blamed(dispatch(&stage(), "POST", "/api2/json/nodes/pve1/qemu/9000/clone", &["", form]));
    let names = |form| clone(form).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("name=a"), ["newid"]);
    assert_eq!(names("newid=99"), ["newid"]);
    assert_eq!(names("newid=101&name=a_b&ful=1"), ["ful", "name"]);
    assert_eq!(names("newid=101&name=a&name=b"), ["name"]);
    assert_eq!(
        clone("newid=101&skiplock=0")[0].1,
        "property is not defined in schema and the schema does not allow additional properties"
    );
}

#[tokio::test]
async fn a_raw_semicolon_separates_and_a_raw_equals_sign_ends_a_value() {
    let stage = stage();
    stage.cluster().plant(101, "pve1", "shared", "vm", "");
    let put = |form| dispatch(&stage, "PUT", CONFIG, &["", form]);
    assert_eq!(blamed(put("tags=a;b"))[0].0, "b");
    assert_eq!(put("tags=b%3Ba&description=x=y").unwrap(), Value::Null);
    let config = dispatch(&stage, "GET", CONFIG, &[""]).unwrap();
    assert_eq!((&config["tags"], &config["description"]), (&json!("a;b"), &json!("x\n")));
}

#[tokio::test]
async fn a_path_nobody_serves_is_not_implemented() {
    for (method, path) in [("GET", "/api2/json/nope"), ("PATCH", CONFIG), ("GET", "/version")] {
        assert!(matches!(dispatch(&stage(), method, path, &[]), Err(Refusal::Failed(501, _))), "{method} {path}");
    }
}

#[tokio::test]
async fn a_clone_is_there_at_once_and_its_number_is_taken() {
    let stage = stage();
    let clone = || {
        dispatch(&stage, "POST", "/api2/json/nodes/pve1/qemu/9000/clone", &["", "newid=101&full=1&description=mine"])
    };
    let upid = clone().unwrap();
    assert!(super::super::upid::Upid::parse(upid.as_str().unwrap()).is_some());
    assert_eq!(stage.cluster().vms[&101].config["lock"], "clone");
    match clone() {
        Err(Refusal::Failed(500, message)) => {
            assert_eq!(message, "unable to create VM 101: config file already exists");
        }
        other => panic!("{other:?}"),
    }
}
