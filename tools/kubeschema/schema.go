package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// object is a JSON schema or a part of one.
type object = map[string]any

// definitions is the file with Kubernetes' definitions, to which the file of
// each kind refers: they share most of them.
const definitions = "definitions.json"

// quantity is called a string in the document, and may be a number.
const quantity = "io.k8s.apimachinery.pkg.api.resource.Quantity"

// fromSwagger makes one file for each kind in an OpenAPI 2 document, and the
// file that all of them refer to. Keys of the result are file names.
func fromSwagger(document []byte) (map[string]object, error) {
	var swagger struct{ Definitions map[string]object }
	if err := json.Unmarshal(document, &swagger); err != nil {
		return nil, err
	}
	if len(swagger.Definitions) == 0 {
		return nil, errors.New("has no definitions")
	}
	all := object{}
	files := map[string]object{definitions: {"definitions": all}}
	for name, definition := range swagger.Definitions {
		strict(definition)
		if name == quantity {
			definition["type"] = []any{"number", "string"}
		}
		all[name] = definition
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 {
			continue // a part of other kinds; or an option that belongs to every group
		}
		kind := kinds[0].(object)
		files[fileName(kind["group"].(string), kind["version"].(string), kind["kind"].(string))] = object{
			"$ref": definitions + "#/definitions/" + name,
		}
	}
	return files, nil
}

// fromCRD adds one file for each version of a CustomResourceDefinition.
func fromCRD(document []byte, files map[string]object) error {
	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema object }
			}
		}
	}
	if err := json.Unmarshal(document, &crd); err != nil {
		return err
	}
	if len(crd.Spec.Versions) == 0 {
		return errors.New("has no versions")
	}
	for _, version := range crd.Spec.Versions {
		schema := version.Schema.OpenAPIV3Schema
		strict(schema)
		// A CRD says nothing about metadata, which is the same for all kinds.
		schema["properties"].(object)["metadata"] = object{
			"$ref": definitions + "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
		}
		files[fileName(crd.Spec.Group, version.Name, crd.Spec.Names.Kind)] = schema
	}
	return nil
}

// fileName is kubeconform's {{.ResourceKind}}{{.KindSuffix}}: of the group only
// what is before its first dot.
func fileName(group, version, kind string) string {
	if group, _, _ = strings.Cut(group, "."); group != "" {
		group += "-"
	}
	return fmt.Sprintf("%s-%s%s.json", strings.ToLower(kind), group, version)
}

// strict changes a schema in place, and all inside it, to refuse fields that it
// does not name, as the API server does with a warning that nobody reads. It
// also says in JSON schema's terms what Kubernetes says in extensions.
func strict(schema object) {
	if schema["format"] == "int-or-string" || schema["x-kubernetes-int-or-string"] == true {
		schema["type"] = []any{"integer", "string"}
	}
	properties, _ := schema["properties"].(object)
	_, mapping := schema["additionalProperties"]
	if len(properties) > 0 && !mapping && schema["x-kubernetes-preserve-unknown-fields"] != true {
		schema["additionalProperties"] = false
	}
	for _, property := range properties {
		strict(property.(object))
	}
	for _, inner := range []string{"items", "additionalProperties"} {
		if s, ok := schema[inner].(object); ok {
			strict(s)
		}
	}
}
