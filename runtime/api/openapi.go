package api

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// schema is a JSON Schema, as OpenAPI 3.1 has it.
type schema map[string]any

var (
	text    = schema{"type": "string"}
	whole   = schema{"type": "integer"}
	number  = schema{"type": "number"}
	boolean = schema{"type": "boolean"}
	anyMap  = schema{"type": "object"}
)

func ref(name string) schema                { return schema{"$ref": "#/components/schemas/" + name} }
func listOf(item schema) schema             { return schema{"type": "array", "items": item} }
func mapOf(value schema) schema             { return schema{"type": "object", "additionalProperties": value} }
func object(fields schema) schema           { return schema{"type": "object", "properties": fields} }
func orNull(s schema) schema                { return schema{"anyOf": []schema{s, {"type": "null"}}} }
func oneOf(words ...string) schema          { return schema{"type": "string", "enum": words} }
func required(s schema, f ...string) schema { s["required"] = f; return s }

// schemas are the bodies that routes name.
var schemas = map[string]schema{
	"Server":       object(schema{"version": text, "commit": text, "kafka_cluster_id": text}),
	"Health":       object(schema{"status": oneOf("healthy", "starting", "unhealthy"), "message": text}),
	"Connectors":   {"oneOf": []schema{listOf(text), mapOf(object(schema{"status": ref("Status"), "info": ref("Connector")}))}},
	"Config":       {"type": "object", "additionalProperties": text, "description": "A type's fields, flattened (rotate.size), with connector.class, the type"},
	"ConfigPatch":  mapOf(orNull(text)),
	"NewConnector": required(object(schema{"name": text, "config": ref("Config"), "initial_state": oneOf("RUNNING", "PAUSED", "STOPPED")}), "name", "config"),
	"Connector": object(schema{"name": text, "type": ref("Kind"), "config": ref("Config"),
		"tasks": listOf(object(schema{"connector": text, "task": whole}))}),
	"Kind":  oneOf("source", "sink"),
	"State": object(stateFields(nil)),
	"Status": object(schema{"name": text, "type": ref("Kind"), "connector": ref("State"), "tasks": listOf(ref("TaskStatus")),
		"class": text, "records": whole, "bytes": whole, "records_per_second": number, "lag": whole, "lag_seconds": number, "since": schema{"type": "string", "format": "date-time"}}),
	"TaskStatus": object(stateFields(schema{"id": whole, "split": text})),
	"Tasks":      listOf(object(schema{"id": object(schema{"connector": text, "task": whole}), "config": ref("Config")})),
	"Topics":     mapOf(object(schema{"topics": listOf(text)})),
	"Offsets":    object(schema{"offsets": listOf(required(object(schema{"partition": anyMap, "offset": orNull(anyMap)}), "partition"))}),
	"Message":    object(schema{"message": text}),
	"Plugins":    listOf(object(schema{"class": text, "type": oneOf("source", "sink", "transformation"), "version": text, "fields": listOf(anyMap)})),
	"Definition": object(schema{"name": text, "type": oneOf("STRING", "PASSWORD", "LONG", "BOOLEAN", "LIST"), "required": boolean, "default_value": orNull(text), "importance": text,
		"documentation": text, "group": text, "order_in_group": whole, "width": text, "display_name": text, "dependents": listOf(text)}),
	"Definitions": listOf(ref("Definition")),
	"ConfigInfos": object(schema{"name": text, "error_count": whole, "groups": listOf(text), "configs": listOf(object(schema{"definition": ref("Definition"),
		"value": object(schema{"name": text, "value": orNull(text), "recommended_values": listOf(text), "errors": listOf(text), "visible": boolean})}))}),
	"Level":   required(object(schema{"level": text}), "level"),
	"Logger":  object(schema{"level": text, "last_modified": orNull(whole)}),
	"Loggers": mapOf(ref("Logger")),
	"Names":   listOf(text),
	"Worker":  object(schema{"name": text}),
	"Apply": required(object(schema{"version": orNull(whole), "dry_run": boolean, "connectors": listOf(required(object(schema{
		"name": text, "kind": ref("Kind"), "type": text, "state": oneOf("", "PAUSED", "STOPPED"),
		"fields": mapOf(schema{"anyOf": []schema{text, listOf(text)}})}), "name", "kind", "type", "fields"))}), "connectors"),
	"Plan": object(schema{"version": whole, "changes": listOf(object(schema{"name": text, "kind": ref("Kind"), "type": text,
		"action": oneOf("create", "change", "remove", "unchanged"), "fields": listOf(object(schema{"name": text, "from": text, "to": text}))}))}),
	"Problem": object(schema{"type": text, "title": text, "status": whole, "detail": text, "error_code": whole, "message": text}),
	"OpenAPI": anyMap,
}

// stateFields are those of a connector's and of a task's state.
func stateFields(more schema) schema {
	out := schema{"state": oneOf("UNASSIGNED", "RUNNING", "PAUSED", "STOPPED", "FAILED", "RESTARTING"), "worker_id": text, "version": text, "trace": text}
	for name, s := range more {
		out[name] = s
	}
	return out
}

var inPath = regexp.MustCompile(`\{(\w+)\}`)

// operation describes one route.
func (r route) operation() schema {
	params := []schema{}
	for _, m := range inPath.FindAllStringSubmatch(r.path, -1) {
		params = append(params, schema{"name": m[1], "in": "path", "required": true, "schema": text})
	}
	for _, name := range r.query {
		params = append(params, schema{"name": name, "in": "query", "schema": text})
	}
	answers := schema{"default": schema{"description": "It is refused, or failed", "content": schema{"application/problem+json": schema{"schema": ref("Problem")}}}}
	for code, name := range r.out {
		a := schema{"description": http.StatusText(code)}
		switch name {
		case "":
		case plainText:
			a["content"] = schema{"text/plain": schema{"schema": text}}
		default:
			a["content"] = schema{"application/json": schema{"schema": ref(name)}}
		}
		answers[strconv.Itoa(code)] = a
	}
	out := schema{"summary": r.summary, "parameters": params, "responses": answers}
	if r.in != "" {
		out["requestBody"] = schema{"required": true, "content": schema{"application/json": schema{"schema": ref(r.in)}}}
	}
	return out
}

// openAPI is GET /openapi.json.
func (h *handler) openAPI(w http.ResponseWriter, _ *http.Request) {
	paths := map[string]schema{}
	for _, r := range h.routes() {
		if paths[r.path] == nil {
			paths[r.path] = schema{}
		}
		paths[r.path][strings.ToLower(r.method)] = r.operation()
	}
	reply(w, http.StatusOK, schema{"openapi": "3.1.0", "info": schema{"title": "Forebay", "version": h.o.Version,
		"description": "Kafka Connect's REST API, and ours beside it. Secrets read as stars."},
		"paths": paths, "components": schema{"schemas": schemas}})
}
