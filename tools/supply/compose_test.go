package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

var pinned = regexp.MustCompile(`:v?[0-9]+(\.[0-9]+)*$`)

// deploy/compose.yaml is what Compose's own loader accepts: its schema, and services,
// secrets and volumes that exist. Images have versions, ports are of this machine alone,
// and our containers may do nothing that they need not.
func TestComposeFile(t *testing.T) {
	dir := filepath.Join("..", "..", "deploy")
	details := types.ConfigDetails{WorkingDir: dir, ConfigFiles: types.ToConfigFiles([]string{filepath.Join(dir, "compose.yaml")})}
	if _, err := loader.LoadWithContext(t.Context(), details); err == nil || !strings.Contains(err.Error(), "WEIR_SECRETS") {
		t.Errorf("without WEIR_SECRETS: %v, want an error that names it", err)
	}
	secrets := t.TempDir()
	details.Environment = types.Mapping{"WEIR_SECRETS": secrets}
	project, err := loader.LoadWithContext(t.Context(), details)
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for name, s := range project.Services {
		if !pinned.MatchString(s.Image) {
			t.Errorf("%s: the image %s has no version", name, s.Image)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: %s is published on %q", name, p.Published, p.HostIP)
			}
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				exists(t, name, v.Source)
			}
		}
		for _, secret := range s.Secrets {
			if project.Secrets[secret.Source].File != filepath.Join(secrets, secret.Source) {
				t.Errorf("%s: the secret %s is the file %s", name, secret.Source, project.Secrets[secret.Source].File)
			}
		}
		for _, c := range s.Configs {
			if file := project.Configs[c.Source].File; file != "" {
				exists(t, name, file)
			}
		}
		if !strings.HasPrefix(s.Image, "weir/") {
			continue
		}
		ours = append(ours, name)
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.PullPolicy != types.PullPolicyNever {
			t.Errorf("%s: read only %t, capabilities dropped %q, options %q, pull policy %s", name, s.ReadOnly, s.CapDrop, s.SecurityOpt, s.PullPolicy)
		}
	}
	slices.Sort(ours)
	if !slices.Equal(ours, []string{"collector", "exposer", "migrate"}) {
		t.Errorf("our services are %q", ours)
	}
}

// The commands of docs/install.md make every secret that the file needs, and images with the
// tag that it asks for, as far as that is known without Docker.
func TestComposeCommands(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, commands, _ := strings.Cut(string(page), "\n## Compose\n")
	_, commands, _ = strings.Cut(commands, "```sh needs=docker\n")
	commands, _, found := strings.Cut(commands, "```")
	if !found {
		t.Fatal("docs/install.md has no commands for Compose")
	}
	home, bin := t.TempDir(), t.TempDir()
	for name, script := range map[string]string{
		"make":    "",
		"git":     "echo v9.9.9",
		"openssl": "echo secret",
		"docker":  `echo "$WEIR_SECRETS $WEIR_VERSION" >>"$HOME/docker"`,
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(home, "cf.token"), []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-euc", commands)
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "PATH=" + bin + ":" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said, err := os.ReadFile(filepath.Join(home, "docker"))
	if err != nil {
		t.Fatal(err)
	}
	secrets, version, _ := strings.Cut(strings.TrimRight(string(said), "\n"), " ")
	if version != "" {
		t.Errorf("images have the tag %s, and make image tags those that the file names by itself", version)
	}
	dir := filepath.Join(root, "deploy")
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: dir, ConfigFiles: types.ToConfigFiles([]string{filepath.Join(dir, "compose.yaml")}),
		Environment: types.Mapping{"WEIR_SECRETS": secrets},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range project.Secrets {
		exists(t, name, s.File)
	}
}

func exists(t *testing.T, service, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("%s mounts what does not exist: %v", service, err)
	}
}
