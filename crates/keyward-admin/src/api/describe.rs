//! Completes the OpenAPI description by what all calls share and by what is configured.

use super::problem::Problem;
use crate::catalogue::Catalogue;
use utoipa::ToSchema as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ArrayItems, Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, ResponseBuilder};

/// Adds the tokens, the errors that any call can return, and the permissions of the catalogue.
pub(super) fn complete(document: &mut OpenApi, catalogue: &Catalogue) {
    let scheme = |text: &str| {
        let http = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build();
        SecurityScheme::Http(http)
    };
    if let Some(components) = &mut document.components {
        components.add_security_scheme("admin", scheme("A token with the role `admin`"));
        components.add_security_scheme("edge", scheme("A token with the role `edge`"));
        for body in ["CreateKeyBody", "EditKeyBody"] {
            if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(body) {
                name_permissions(object, catalogue);
            }
        }
    }
    for item in document.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter().filter_map(Option::as_mut);
        for operation in operations {
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter
                    && let Some(RefOr::T(schema)) = &mut parameter.schema
                {
                    never_null(schema);
                }
            }
            let with_body = operation.request_body.is_some();
            let with_token = operation.security.is_some();
            let mut common = Vec::new();
            if with_token {
                common.extend([
                    ("400", "`malformed_json` or `invalid_header`"),
                    ("401", "`token_missing` or `token_invalid`"),
                    ("403", "`role_forbidden`"),
                    ("422", "`validation_failed`: `errors` lists every wrong field"),
                    ("429", "`too_many_failures`: too many wrong tokens came from this address"),
                    ("431", "`head_too_large`"),
                    ("500", "`internal`"),
                    ("503", "`store_unavailable`"),
                ]);
            }
            if with_body {
                common.extend([
                    ("408", "`body_timeout`"),
                    ("413", "`body_too_large`"),
                    ("415", "`unsupported_media_type`"),
                ]);
            }
            for (status, description) in common {
                describe_problem(operation, status, description);
            }
        }
    }
}

fn describe_problem(operation: &mut Operation, status: &str, description: &str) {
    let schema = RefOr::Ref(Ref::from_schema_name(Problem::name()));
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", Content::new(Some(schema)))
        .build();
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.into());
}

/// Removes `null` from the types of a parameter: a parameter can be left out, and cannot be null.
fn never_null(schema: &mut Schema) {
    if let Schema::Object(object) = schema
        && let SchemaType::Array(types) = &object.schema_type
        && let Some(only) = types.iter().find(|kind| !matches!(kind, Type::Null))
    {
        object.schema_type = SchemaType::Type(only.clone());
    }
}

/// Lists the permissions of the catalogue as the allowed values.
fn name_permissions(body: &mut utoipa::openapi::Object, catalogue: &Catalogue) {
    if let Some(RefOr::T(Schema::Array(list))) = body.properties.get_mut("permissions")
        && let ArrayItems::RefOrSchema(items) = &mut list.items
        && let RefOr::T(Schema::Object(item)) = &mut **items
    {
        item.enum_values = Some(catalogue.permissions().map(|permission| permission.id.clone().into()).collect());
    }
}
