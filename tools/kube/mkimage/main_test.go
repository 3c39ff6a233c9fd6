package main

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// The stages of deploy/Dockerfile are read as they are: program, user, folder for data.
func TestStagesOfTheDockerfile(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	context := fstest.MapFS{
		"collector": {Data: []byte("c"), Mode: 0o755}, "exposer": {Data: []byte("x"), Mode: 0o755},
		"weir": {Data: []byte("w"), Mode: 0o755}, "data": {Mode: os.ModeDir | 0o755},
	}
	for target, files := range map[string]string{"collector": "collector", "exposer": "exposer", "weir": "weir data/"} {
		img, err := stage(string(text), target, context)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range img.files {
			names = append(names, f.name)
			if f.name == "data/" && f.uid != 65532 {
				t.Errorf("%s: /data belongs to %d", target, f.uid)
			}
		}
		if got := strings.Join(names, " "); got != files {
			t.Errorf("%s has %q, want %q", target, got, files)
		}
		if img.config["User"] != "65532:65532" || len(img.config["Entrypoint"].([]string)) != 1 {
			t.Errorf("%s: config is %v", target, img.config)
		}
		if _, err := img.layout("local/" + target + ":1"); err != nil {
			t.Error(err)
		}
	}
}

// What is not known is refused, not left out.
func TestRefusedStages(t *testing.T) {
	for text, want := range map[string]string{
		"FROM scratch AS other\n":         "no stage FROM scratch AS x",
		"FROM debian AS x\n":              "no stage FROM scratch AS x",
		"FROM scratch AS x\nRUN true\n":   "line 2: the instruction RUN is not known",
		"FROM scratch AS x\nCOPY a b c\n": "COPY takes one source and one destination",
		"FROM scratch AS x\nCMD run\n":    "CMD run",
	} {
		if _, err := stage(text, "x", fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
