package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

// bill is a software bill of materials, CycloneDX 1.6. It holds no time and no
// random number, so that equal binaries have equal bills.
type bill struct {
	BOMFormat    string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl"`
	Licences   []choice   `json:"licenses,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type choice struct {
	Licence identifier `json:"license"`
}

type identifier struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// bills are those of the binaries in a folder, by name.
func bills(dir, version string) (map[string][]byte, error) {
	all := map[string][]byte{}
	for _, b := range binaries {
		info, err := buildinfo.ReadFile(filepath.Join(dir, b.name))
		if err != nil {
			return nil, err
		}
		modules, err := linked([]platform{platformOf(info)}, b.name)
		if err != nil {
			return nil, err
		}
		known := map[string][]string{}
		for _, m := range modules {
			if known[m.path], err = licences(m); err != nil {
				return nil, err
			}
		}
		text, err := json.MarshalIndent(materials(b.name, version, info, known), "", "  ")
		if err != nil {
			return nil, err
		}
		all[b.name] = append(text, '\n')
	}
	return all, nil
}

// writeBills writes the bill of each binary in bin/, of which this is the
// version, to a folder.
func writeBills(dir, version string) error {
	all, err := bills("bin", version)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name+".cdx.json"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// platformOf is what a binary runs on.
func platformOf(info *debug.BuildInfo) (p platform) {
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS":
			p.os = s.Value
		case "GOARCH":
			p.arch = s.Value
		}
	}
	return p
}

// materials is the bill of a binary by what the toolchain wrote into it.
func materials(name, version string, info *debug.BuildInfo, licences map[string][]string) bill {
	b := bill{BOMFormat: "CycloneDX", SpecVersion: "1.6", Version: 1, Components: []component{}}
	b.Metadata.Component = newComponent("application", info.Main.Path, version, nil)
	b.Metadata.Component.Name = name
	for _, s := range info.Settings {
		if slices.Contains([]string{"vcs.revision", "vcs.modified", "CGO_ENABLED", "GOOS", "GOARCH", "-trimpath"}, s.Key) {
			b.Metadata.Component.Properties = append(b.Metadata.Component.Properties, property{"go:" + s.Key, s.Value})
		}
	}
	add := func(path, version, sum string) {
		c := newComponent("library", path, version, licences[path])
		if sum != "" {
			c.Properties = []property{{"go:sum", sum}}
		}
		b.Components = append(b.Components, c)
	}
	add(standardLibrary, strings.TrimPrefix(info.GoVersion, "go"), "")
	for _, dep := range info.Deps {
		if dep.Path == ours || strings.HasPrefix(dep.Path, ours+"/") {
			continue // the application itself, in several modules
		}
		if dep.Replace != nil {
			dep = dep.Replace
		}
		add(dep.Path, dep.Version, dep.Sum)
	}
	uses := dependency{Ref: b.Metadata.Component.Ref}
	for _, c := range b.Components {
		uses.DependsOn = append(uses.DependsOn, c.Ref)
	}
	b.Dependencies = []dependency{uses}
	return b
}

func newComponent(kind, path, version string, ids []string) component {
	purl := fmt.Sprintf("pkg:golang/%s@%s", path, version)
	c := component{Type: kind, Ref: purl, Name: path, Version: version, PURL: purl}
	for _, id := range ids {
		if id == publicDomain { // a name, since SPDX has no identifier
			c.Licences = append(c.Licences, choice{identifier{Name: id}})
			continue
		}
		c.Licences = append(c.Licences, choice{identifier{ID: id}})
	}
	return c
}
