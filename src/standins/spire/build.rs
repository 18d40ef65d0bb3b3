//! Turns the `.proto` files into code, with a compiler in Rust: no `protoc` is needed on the machine.

use std::{collections::BTreeMap, error::Error, path::Path};

use tonic_prost_build::{Builder, FileDescriptorSet};

const FILES: &[&str] = &[
    "workload/workload.proto",
    "health/health.proto",
    "envoy/service/secret/v3/sds.proto",
    "envoy/extensions/transport_sockets/tls/v3/secret.proto",
    "spire/api/types/types.proto",
    "spire/api/server/agent/v1/agent.proto",
    "spire/api/server/bundle/v1/bundle.proto",
    "spire/api/server/entry/v1/entry.proto",
    "spire/api/server/localauthority/v1/localauthority.proto",
    "spire/api/server/svid/v1/svid.proto",
    "spire/api/server/trustdomain/v1/trustdomain.proto",
];

/// What the commands print with `-output json`; what these hold is printed with them.
const PRINTED: &[&str] = &[
    ".JWTBundlesResponse",
    ".JWTSVIDResponse",
    ".ValidateJWTSVIDResponse",
    ".X509SVIDResponse",
    ".spire.api.server.agent.v1.CountAgentsResponse",
    ".spire.api.server.agent.v1.ListAgentsResponse",
    ".spire.api.server.bundle.v1.BatchDeleteFederatedBundleResponse",
    ".spire.api.server.bundle.v1.BatchSetFederatedBundleResponse",
    ".spire.api.server.bundle.v1.CountBundlesResponse",
    ".spire.api.server.bundle.v1.ListFederatedBundlesResponse",
    ".spire.api.server.entry.v1.BatchCreateEntryResponse",
    ".spire.api.server.entry.v1.BatchDeleteEntryResponse",
    ".spire.api.server.entry.v1.BatchUpdateEntryResponse",
    ".spire.api.server.entry.v1.CountEntriesResponse",
    ".spire.api.server.entry.v1.ListEntriesResponse",
    ".spire.api.server.localauthority.v1.ActivateJWTAuthorityResponse",
    ".spire.api.server.localauthority.v1.ActivateX509AuthorityResponse",
    ".spire.api.server.localauthority.v1.GetJWTAuthorityStateResponse",
    ".spire.api.server.localauthority.v1.GetX509AuthorityStateResponse",
    ".spire.api.server.localauthority.v1.PrepareJWTAuthorityResponse",
    ".spire.api.server.localauthority.v1.PrepareX509AuthorityResponse",
    ".spire.api.server.localauthority.v1.RevokeJWTAuthorityResponse",
    ".spire.api.server.localauthority.v1.RevokeX509AuthorityResponse",
    ".spire.api.server.localauthority.v1.TaintJWTAuthorityResponse",
    ".spire.api.server.localauthority.v1.TaintX509AuthorityResponse",
    ".spire.api.server.svid.v1.MintJWTSVIDResponse",
    ".spire.api.server.trustdomain.v1.BatchCreateFederationRelationshipResponse",
    ".spire.api.server.trustdomain.v1.BatchDeleteFederationRelationshipResponse",
    ".spire.api.server.trustdomain.v1.BatchUpdateFederationRelationshipResponse",
    ".spire.api.server.trustdomain.v1.ListFederationRelationshipsResponse",
    ".spire.api.types.JoinToken",
];

/// A message as far as JSON is concerned: its fields, and the names of those of which only one may be set.
struct Message {
    fields: Vec<Field>,
    choices: Vec<String>,
}

/// A field as far as JSON is concerned: its name, its type's number or the message it holds, whether it is repeated, and
/// whether it may be left out.
struct Field {
    name: String,
    kind: i32,
    holds: String,
    repeated: bool,
    optional: bool,
}

/// Numbers of `FieldDescriptorProto.Type` and `.Label` (descriptor.proto).
const INT64: i32 = 3;
const UINT64: i32 = 4;
const BYTES: i32 = 12;
const MESSAGE: i32 = 11;
const REPEATED: i32 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let root = Path::new("proto");
    let set = protox::compile(FILES.iter().map(|file| root.join(file)), [root])?;
    printed(tonic_prost_build::configure(), &set).compile_fds(set)?;
    Ok(())
}

/// Has what is printed derive `Serialize`, as protobuf's JSON mapping has it.
fn printed(mut builder: Builder, set: &FileDescriptorSet) -> Builder {
    let messages = messages(set);
    let mut todo: Vec<String> = PRINTED.iter().map(|name| (*name).to_owned()).collect();
    let mut done: Vec<String> = Vec::new();
    while let Some(name) = todo.pop() {
        let Some(message) = messages.get(&name).filter(|_| !done.contains(&name)) else {
            continue;
        };
        // What is given to a message is given to those that are declared in it.
        if !done.iter().any(|outer| name.starts_with(&format!("{outer}."))) {
            builder = builder.type_attribute(&name, "#[derive(serde::Serialize)]");
        }
        // Which one of a choice is set is told by its name, beside the other fields. A path with a dot in front would hold
        // for what may be chosen too.
        for choice in &message.choices {
            let path = format!("{name}.{choice}");
            builder = builder
                .field_attribute(path.trim_start_matches('.'), "#[serde(flatten)]")
                .type_attribute(&path, "#[serde(rename_all = \"snake_case\")]");
        }
        for field in &message.fields {
            let map = messages
                .get(&field.holds)
                .filter(|_| field.holds.ends_with("Entry") && field.repeated && field.kind == MESSAGE)
                .and_then(|entry| entry.fields.iter().find(|field| field.name == "value"))
                .filter(|_| field.holds.starts_with(&format!("{name}.")));
            let with = match (field.kind, field.repeated, map) {
                (_, _, Some(value)) if value.kind == BYTES => "named_bytes",
                (INT64, false, _) => "int64",
                (UINT64, false, _) => "uint64",
                (BYTES, false, _) => "bytes",
                (BYTES, true, _) => "many_bytes",
                (MESSAGE, false, _) if field.holds == ".google.protobuf.Struct" => "structure",
                _ => "",
            };
            let path = format!("{name}.{}", field.name);
            if !with.is_empty() {
                builder = builder.field_attribute(
                    &path,
                    format!("#[serde(serialize_with = \"crate::protojson::{with}\")]"),
                );
            } else if field.kind == MESSAGE {
                todo.push(field.holds.clone());
            }
            if field.optional {
                builder = builder.field_attribute(&path, "#[serde(skip_serializing_if = \"Option::is_none\")]");
            }
        }
        done.push(name);
    }
    builder
}

fn messages(set: &FileDescriptorSet) -> BTreeMap<String, Message> {
    let mut found = BTreeMap::new();
    for file in &set.file {
        let package = file.package();
        let prefix = if package.is_empty() {
            String::new()
        } else {
            format!(".{package}")
        };
        let mut todo: Vec<(String, _)> = file.message_type.iter().map(|one| (prefix.clone(), one)).collect();
        while let Some((prefix, message)) = todo.pop() {
            let name = format!("{prefix}.{}", message.name());
            let fields = message.field.iter().map(|field| Field {
                name: field.name().to_owned(),
                kind: field.r#type.unwrap_or_default(),
                holds: field.type_name().to_owned(),
                repeated: field.label == Some(REPEATED),
                optional: field.proto3_optional(),
            });
            // What may be left out is a choice of one to the compiler.
            let choices = message.oneof_decl.iter().zip(0..).filter(|(_, at)| {
                let mut fields = message.field.iter();
                fields.any(|field| field.oneof_index == Some(*at) && !field.proto3_optional())
            });
            let message_read = Message {
                fields: fields.collect(),
                choices: choices.map(|(choice, _)| choice.name().to_owned()).collect(),
            };
            found.insert(name.clone(), message_read);
            todo.extend(message.nested_type.iter().map(|one| (name.clone(), one)));
        }
    }
    found
}
