package main

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const swagger = `{"definitions": {
	"io.k8s.api.apps.v1.Thing": {
		"type": "object",
		"properties": {
			"port": {"$ref": "#/definitions/Port"},
			"labels": {"type": "object", "additionalProperties": {"type": "string"}},
			"parts": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}}
		},
		"x-kubernetes-group-version-kind": [{"group": "apps.k8s.io", "version": "v1", "kind": "Thing"}]
	},
	"Core": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Core"}]},
	"Port": {"type": "string", "format": "int-or-string"},
	"io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"}
}}`

func TestFromSwagger(t *testing.T) {
	files, err := fromSwagger([]byte(swagger))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, files["thing-apps-v1.json"], `{"$ref": "definitions.json#/definitions/io.k8s.api.apps.v1.Thing"}`)
	expect(t, files["core-v1.json"], `{"$ref": "definitions.json#/definitions/Core"}`)
	if len(files) != 3 {
		t.Errorf("got %d files, want two kinds and the definitions", len(files))
	}
	all := files[definitions]["definitions"].(object)
	delete(all["io.k8s.api.apps.v1.Thing"].(object), "x-kubernetes-group-version-kind")
	expect(t, all["io.k8s.api.apps.v1.Thing"].(object), `{
		"type": "object",
		"properties": {
			"port": {"$ref": "#/definitions/Port"},
			"labels": {"type": "object", "additionalProperties": {"type": "string"}},
			"parts": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": false}}
		},
		"additionalProperties": false
	}`)
	expect(t, all["Port"].(object), `{"type": ["integer", "string"], "format": "int-or-string"}`)
	expect(t, all[quantity].(object), `{"type": ["number", "string"]}`)

	if _, err := fromSwagger([]byte(`{"swagger": "2.0"}`)); err == nil {
		t.Error("a document without definitions was accepted")
	}
}

func TestFromCRD(t *testing.T) {
	files := map[string]object{}
	err := fromCRD([]byte(`{"spec": {
		"group": "monitoring.coreos.com", "names": {"kind": "PodMonitor"},
		"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": {
			"metadata": {"type": "object"},
			"spec": {"type": "object", "properties": {
				"port": {"x-kubernetes-int-or-string": true},
				"raw": {"type": "object", "properties": {"a": {}}, "x-kubernetes-preserve-unknown-fields": true}
			}}
		}}}}]
	}}`), files)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, files["podmonitor-monitoring-v1.json"], `{
		"type": "object",
		"properties": {
			"metadata": {"$ref": "definitions.json#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},
			"spec": {
				"type": "object",
				"properties": {
					"port": {"type": ["integer", "string"], "x-kubernetes-int-or-string": true},
					"raw": {"type": "object", "properties": {"a": {}}, "x-kubernetes-preserve-unknown-fields": true}
				},
				"additionalProperties": false
			}
		},
		"additionalProperties": false
	}`)
	if err := fromCRD([]byte(`{"kind": "ConfigMap"}`), files); err == nil {
		t.Error("a document that is no CRD was accepted")
	}
}

func expect(t *testing.T, got object, want string) {
	t.Helper()
	var wanted object
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("schema (-want +got):\n%s", diff)
	}
}
