package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// folders are where dashboards are shipped.
var folders = []string{"../../deploy/dashboards", "../../deploy/helm/weir/files"}

func dashboards(t *testing.T, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(file)] = string(text)
	}
	return out
}

// What is shipped is what this module builds, and nothing else is.
func TestShippedIsCurrent(t *testing.T) {
	built := t.TempDir()
	if err := write([]string{built}); err != nil {
		t.Fatal(err)
	}
	want := dashboards(t, built)
	for _, folder := range folders {
		got := dashboards(t, folder)
		for name, text := range want {
			if got[name] != text {
				t.Errorf("%s/%s is out of date: run make generate and commit the result", folder, name)
			}
		}
		for name := range got {
			if _, built := want[name]; !built {
				t.Errorf("%s/%s is not built by anything", folder, name)
			}
		}
	}
}

// kubectl apply keeps a copy of a ConfigMap, encoded once more, in an annotation of at most
// 256 KiB: a quarter is left for growth, labels and names.
func TestConfigMapsCanBeApplied(t *testing.T) {
	const limit = 262144
	for name, text := range dashboards(t, folders[1]) {
		again, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > limit*3/4 {
			t.Errorf("%s takes %d bytes of the %d that kubectl apply can keep", name, len(again), limit)
		}
	}
}

// Each dashboard has a uid of its own, by which others link to it, and what it is imported
// with: a data source to choose.
func TestUids(t *testing.T) {
	for name, text := range dashboards(t, folders[0]) {
		var d struct {
			UID, Title string
			Templating struct{ List []struct{ Name, Type string } }
		}
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		if d.UID+".json" != name || d.Title == "" {
			t.Errorf("%s has the uid %q and the title %q", name, d.UID, d.Title)
		}
		if len(d.Templating.List) == 0 || d.Templating.List[0].Type != "datasource" {
			t.Errorf("%s does not begin with the choice of a data source", name)
		}
	}
}
