//! The host calls of proxy-wasm 0.2, as far as the module uses them.

use super::memory::{Call, decode_fields, encode_fields, give, read, read_text, write};
use super::state::{Fields, HttpCall, LocalReply, Log, Metric, MetricKind, ROOT, State};
use wasmi::{Error, Linker, Module};

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const CAS_MISMATCH: u32 = 8;

const REQUEST_HEADERS: u32 = 0;
const CALL_RESPONSE_HEADERS: u32 = 6;
const CALL_RESPONSE_BODY: u32 = 4;
const VM_CONFIGURATION: u32 = 6;
const PLUGIN_CONFIGURATION: u32 = 7;

type Answer = Result<u32, Error>;

/// Defines all of them.
pub fn define(linker: &mut Linker<State>) -> Result<(), Error> {
    headers(linker)?;
    properties(linker)?;
    streams(linker)?;
    metrics(linker)?;
    environment(linker)?;
    shared_data(linker)?;
    wasi(linker)
}

/// Lets the module load whatever it imports; calling what [`define`] does not replace is a trap.
pub fn trap_all(linker: &mut Linker<State>, module: &Module) -> Result<(), Error> {
    for import in module.imports() {
        let Some(of_type) = import.ty().func() else { continue };
        let name = format!("{}.{}", import.module(), import.name());
        linker.func_new(import.module(), import.name(), of_type.clone(), move |_, _, _| {
            Err(Error::new(format!("the module called {name}, which this host does not offer")))
        })?;
    }
    Ok(())
}

fn count(call: &mut Call<'_>, name: &'static str) {
    *call.data_mut().counts.entry(name).or_default() += 1;
}

fn fields(state: &mut State, map: u32) -> Option<&mut Fields> {
    match map {
        REQUEST_HEADERS => state.current().map(|stream| &mut stream.headers),
        CALL_RESPONSE_HEADERS => state.call_response.as_mut().map(|(headers, _)| headers),
        _ => None,
    }
}

fn headers(linker: &mut Linker<State>) -> Result<(), Error> {
    let env = "env";
    linker.func_wrap(
        env,
        "proxy_get_header_map_pairs",
        |mut call: Call<'_>, map: u32, data: u32, size: u32| -> Answer {
            count(&mut call, "proxy_get_header_map_pairs");
            let Some(bytes) = fields(call.data_mut(), map).map(|fields| encode_fields(fields)) else {
                return Ok(BAD_ARGUMENT);
            };
            give(&mut call, &bytes, data, size)?;
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_get_header_map_value",
        |mut call: Call<'_>, map: u32, key: u32, key_size: u32, data: u32, size: u32| -> Answer {
            count(&mut call, "proxy_get_header_map_value");
            let key = read(&call, key, key_size)?;
            let Some(fields) = fields(call.data_mut(), map) else { return Ok(BAD_ARGUMENT) };
            // The first of several, as Envoy does.
            let value = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key)).map(|(_, value)| value.clone());
            let Some(value) = value else { return Ok(NOT_FOUND) };
            give(&mut call, &value, data, size)?;
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_remove_header_map_value",
        |mut call: Call<'_>, map: u32, key: u32, key_size: u32| -> Answer {
            count(&mut call, "proxy_remove_header_map_value");
            let key = read(&call, key, key_size)?;
            let Some(fields) = fields(call.data_mut(), map) else { return Ok(BAD_ARGUMENT) };
            fields.retain(|(name, _)| !name.eq_ignore_ascii_case(&key));
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_replace_header_map_value",
        |mut call: Call<'_>, map: u32, key: u32, key_size: u32, value: u32, value_size: u32| -> Answer {
            count(&mut call, "proxy_replace_header_map_value");
            let (key, value) = (read(&call, key, key_size)?.to_ascii_lowercase(), read(&call, value, value_size)?);
            let Some(fields) = fields(call.data_mut(), map) else { return Ok(BAD_ARGUMENT) };
            let place = fields.iter().position(|(name, _)| *name == key).unwrap_or(fields.len());
            fields.retain(|(name, _)| *name != key);
            fields.insert(place, (key, value));
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_add_header_map_value",
        |mut call: Call<'_>, map: u32, key: u32, key_size: u32, value: u32, value_size: u32| -> Answer {
            count(&mut call, "proxy_add_header_map_value");
            let (key, value) = (read(&call, key, key_size)?.to_ascii_lowercase(), read(&call, value, value_size)?);
            let Some(fields) = fields(call.data_mut(), map) else { return Ok(BAD_ARGUMENT) };
            fields.push((key, value));
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_set_header_map_pairs",
        |mut call: Call<'_>, map: u32, data: u32, size: u32| -> Answer {
            count(&mut call, "proxy_set_header_map_pairs");
            let Some(new) = decode_fields(&read(&call, data, size)?) else { return Ok(BAD_ARGUMENT) };
            let Some(fields) = fields(call.data_mut(), map) else { return Ok(BAD_ARGUMENT) };
            *fields = new;
            Ok(OK)
        },
    )?;
    Ok(())
}

fn properties(linker: &mut Linker<State>) -> Result<(), Error> {
    let env = "env";
    linker.func_wrap(
        env,
        "proxy_get_property",
        |mut call: Call<'_>, path: u32, path_size: u32, data: u32, size: u32| -> Answer {
            count(&mut call, "proxy_get_property");
            let path = read(&call, path, path_size)?;
            if let Some(status) = call.data().property_errors.get(&path) {
                return Ok(*status);
            }
            let Some(value) = call.data().properties.get(&path).cloned() else { return Ok(NOT_FOUND) };
            give(&mut call, &value, data, size)?;
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_set_property",
        |mut call: Call<'_>, path: u32, path_size: u32, value: u32, value_size: u32| -> Answer {
            count(&mut call, "proxy_set_property");
            let (path, value) = (read_text(&call, path, path_size)?, read(&call, value, value_size)?);
            let Some(stream) = call.data_mut().current() else { return Ok(NOT_FOUND) };
            stream.filter_state.insert(path, value);
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_call_foreign_function",
        |mut call: Call<'_>, name: u32, name_size: u32, _: u32, _: u32, data: u32, size: u32| -> Answer {
            count(&mut call, "proxy_call_foreign_function");
            if read_text(&call, name, name_size)? != "clear_route_cache" {
                return Ok(NOT_FOUND);
            }
            call.data_mut().route_cache_clears += 1;
            if data != 0 {
                give(&mut call, b"", data, size)?;
            }
            Ok(OK)
        },
    )?;
    Ok(())
}

fn streams(linker: &mut Linker<State>) -> Result<(), Error> {
    let env = "env";
    linker.func_wrap(
        env,
        "proxy_send_local_response",
        |mut call: Call<'_>,
         status: u32,
         details: u32,
         details_size: u32,
         body: u32,
         body_size: u32,
         headers: u32,
         headers_size: u32,
         grpc_status: i32|
         -> Answer {
            count(&mut call, "proxy_send_local_response");
            let Some(headers) = decode_fields(&read(&call, headers, headers_size)?) else { return Ok(BAD_ARGUMENT) };
            let details = read_text(&call, details, details_size)?;
            let body = read(&call, body, body_size)?;
            let Some(stream) = call.data_mut().current() else { return Ok(BAD_ARGUMENT) };
            // The first answer counts.
            stream.reply.get_or_insert(LocalReply { status, details, headers, body, grpc_status });
            Ok(OK)
        },
    )?;
    linker.func_wrap(env, "proxy_set_effective_context", |mut call: Call<'_>, context: u32| -> Answer {
        count(&mut call, "proxy_set_effective_context");
        let state = call.data_mut();
        if context != ROOT && !state.streams.contains_key(&context) {
            return Ok(BAD_ARGUMENT);
        }
        state.effective = context;
        Ok(OK)
    })?;
    linker.func_wrap(env, "proxy_continue_stream", |mut call: Call<'_>, _: u32| -> Answer {
        count(&mut call, "proxy_continue_stream");
        let Some(stream) = call.data_mut().current() else { return Ok(BAD_ARGUMENT) };
        stream.resumed = true;
        Ok(OK)
    })?;
    linker.func_wrap(env, "proxy_close_stream", |mut call: Call<'_>, _: u32| -> Answer {
        count(&mut call, "proxy_close_stream");
        Ok(OK)
    })?;
    linker.func_wrap(env, "proxy_done", |mut call: Call<'_>| -> Answer {
        count(&mut call, "proxy_done");
        Ok(OK)
    })?;
    linker.func_wrap(
        env,
        "proxy_get_buffer_bytes",
        |mut call: Call<'_>, buffer: u32, start: u32, length: u32, data: u32, size: u32| -> Answer {
            count(&mut call, "proxy_get_buffer_bytes");
            let state = call.data();
            let bytes = match buffer {
                CALL_RESPONSE_BODY => state.call_response.as_ref().map(|(_, body)| body.as_slice()),
                VM_CONFIGURATION => Some(state.vm_configuration.as_slice()),
                PLUGIN_CONFIGURATION => Some(state.plugin_configuration.as_slice()),
                _ => None,
            };
            let Some(rest) = bytes.and_then(|bytes| bytes.get(start as usize..)) else { return Ok(NOT_FOUND) };
            let part = rest.get(..length as usize).unwrap_or(rest).to_vec();
            give(&mut call, &part, data, size)?;
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_http_call",
        |mut call: Call<'_>,
         cluster: u32,
         cluster_size: u32,
         headers: u32,
         headers_size: u32,
         body: u32,
         body_size: u32,
         _: u32,
         _: u32,
         timeout_ms: u32,
         token: u32|
         -> Answer {
            count(&mut call, "proxy_http_call");
            let cluster = read_text(&call, cluster, cluster_size)?;
            let Some(headers) = decode_fields(&read(&call, headers, headers_size)?) else { return Ok(BAD_ARGUMENT) };
            let body = read(&call, body, body_size)?;
            let state = call.data_mut();
            if !state.clusters.contains(&cluster) {
                return Ok(BAD_ARGUMENT);
            }
            let id = u32::try_from(state.calls.len()).unwrap_or(u32::MAX) + 1;
            state.calls.push(HttpCall { id, cluster, headers, body, timeout_ms });
            write(&mut call, token, &id.to_le_bytes())?;
            Ok(OK)
        },
    )?;
    Ok(())
}

fn metrics(linker: &mut Linker<State>) -> Result<(), Error> {
    let env = "env";
    linker.func_wrap(
        env,
        "proxy_define_metric",
        |mut call: Call<'_>, kind: u32, name: u32, name_size: u32, id: u32| -> Answer {
            count(&mut call, "proxy_define_metric");
            let name = read_text(&call, name, name_size)?;
            let kind = match kind {
                0 => MetricKind::Counter,
                1 => MetricKind::Gauge,
                2 => MetricKind::Histogram,
                _ => return Ok(BAD_ARGUMENT),
            };
            let metrics = &mut call.data_mut().metrics;
            let at = metrics.iter().position(|metric| metric.name == name).unwrap_or(metrics.len());
            if at == metrics.len() {
                metrics.push(Metric { kind, name, value: 0 });
            }
            write(&mut call, id, &u32::try_from(at).unwrap_or(u32::MAX).to_le_bytes())?;
            Ok(OK)
        },
    )?;
    linker.func_wrap(env, "proxy_increment_metric", |mut call: Call<'_>, id: u32, offset: i64| -> Answer {
        count(&mut call, "proxy_increment_metric");
        let Some(metric) = call.data_mut().metrics.get_mut(id as usize) else { return Ok(NOT_FOUND) };
        if metric.kind == MetricKind::Counter && offset <= 0 {
            return Ok(BAD_ARGUMENT);
        }
        metric.value = metric.value.wrapping_add_signed(offset);
        Ok(OK)
    })?;
    linker.func_wrap(env, "proxy_record_metric", |mut call: Call<'_>, id: u32, value: u64| -> Answer {
        count(&mut call, "proxy_record_metric");
        let Some(metric) = call.data_mut().metrics.get_mut(id as usize) else { return Ok(NOT_FOUND) };
        metric.value = value;
        Ok(OK)
    })?;
    linker.func_wrap(env, "proxy_get_metric", |mut call: Call<'_>, id: u32, value: u32| -> Answer {
        count(&mut call, "proxy_get_metric");
        let Some(metric) = call.data().metrics.get(id as usize) else { return Ok(NOT_FOUND) };
        let bytes = metric.value.to_le_bytes();
        write(&mut call, value, &bytes)?;
        Ok(OK)
    })?;
    Ok(())
}

fn environment(linker: &mut Linker<State>) -> Result<(), Error> {
    let env = "env";
    linker.func_wrap(env, "proxy_log", |mut call: Call<'_>, level: u32, text: u32, size: u32| -> Answer {
        count(&mut call, "proxy_log");
        let message = read_text(&call, text, size)?;
        call.data_mut().logs.push(Log { level, message });
        Ok(OK)
    })?;
    linker.func_wrap(env, "proxy_get_log_level", |mut call: Call<'_>, level: u32| -> Answer {
        count(&mut call, "proxy_get_log_level");
        write(&mut call, level, &2_u32.to_le_bytes())?;
        Ok(OK)
    })?;
    linker.func_wrap(env, "proxy_get_current_time_nanoseconds", |mut call: Call<'_>, time: u32| -> Answer {
        count(&mut call, "proxy_get_current_time_nanoseconds");
        let now = call.data().now_ns.to_le_bytes();
        write(&mut call, time, &now)?;
        Ok(OK)
    })?;
    linker.func_wrap(env, "proxy_set_tick_period_milliseconds", |mut call: Call<'_>, period: u32| -> Answer {
        count(&mut call, "proxy_set_tick_period_milliseconds");
        call.data_mut().tick_period_ms = Some(period);
        Ok(OK)
    })?;
    Ok(())
}

fn shared_data(linker: &mut Linker<State>) -> Result<(), Error> {
    let env = "env";
    linker.func_wrap(
        env,
        "proxy_get_shared_data",
        |mut call: Call<'_>, key: u32, key_size: u32, data: u32, size: u32, cas: u32| -> Answer {
            count(&mut call, "proxy_get_shared_data");
            let key = read(&call, key, key_size)?;
            let Some((value, number)) = call.data().shared.get(&key).cloned() else { return Ok(NOT_FOUND) };
            give(&mut call, &value, data, size)?;
            write(&mut call, cas, &number.to_le_bytes())?;
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_set_shared_data",
        |mut call: Call<'_>, key: u32, key_size: u32, value: u32, value_size: u32, cas: u32| -> Answer {
            count(&mut call, "proxy_set_shared_data");
            let (key, value) = (read(&call, key, key_size)?, read(&call, value, value_size)?);
            let shared = &mut call.data_mut().shared;
            let held = shared.get(&key).map_or(0, |(_, number)| *number);
            if cas != 0 && cas != held {
                return Ok(CAS_MISMATCH);
            }
            shared.insert(key, (value, held + 1));
            Ok(OK)
        },
    )?;
    Ok(())
}

fn wasi(linker: &mut Linker<State>) -> Result<(), Error> {
    let module = "wasi_snapshot_preview1";
    linker.func_wrap(module, "clock_time_get", |mut call: Call<'_>, clock: u32, _: u64, time: u32| -> Answer {
        count(&mut call, "clock_time_get");
        let state = call.data();
        let now = if clock == 1 { state.monotonic_ns } else { state.now_ns };
        write(&mut call, time, &now.to_le_bytes())?;
        Ok(0)
    })?;
    linker.func_wrap(module, "environ_sizes_get", |mut call: Call<'_>, entries: u32, size: u32| -> Answer {
        count(&mut call, "environ_sizes_get");
        let environment = &call.data().environment;
        let length: usize = environment.iter().map(|entry| entry.len() + 1).sum();
        let (number, length) = (environment.len() as u32, u32::try_from(length).unwrap_or(u32::MAX));
        write(&mut call, entries, &number.to_le_bytes())?;
        write(&mut call, size, &length.to_le_bytes())?;
        Ok(0)
    })?;
    linker.func_wrap(module, "environ_get", |mut call: Call<'_>, entries: u32, buffer: u32| -> Answer {
        count(&mut call, "environ_get");
        let (mut pointers, mut text) = (Vec::new(), Vec::new());
        for entry in &call.data().environment {
            pointers.extend((buffer + u32::try_from(text.len()).unwrap_or(u32::MAX)).to_le_bytes());
            text.extend(entry.as_bytes());
            text.push(0);
        }
        write(&mut call, entries, &pointers)?;
        write(&mut call, buffer, &text)?;
        Ok(0)
    })?;
    linker.func_wrap(module, "random_get", |mut call: Call<'_>, data: u32, size: u32| -> Answer {
        count(&mut call, "random_get");
        let mut bytes = vec![0; size as usize];
        call.data_mut().random.fill(&mut bytes);
        write(&mut call, data, &bytes)?;
        Ok(0)
    })?;
    Ok(())
}
