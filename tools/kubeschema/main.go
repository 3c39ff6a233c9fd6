// Command kubeschema writes JSON schemas of Kubernetes' own resources and of those of
// the Prometheus operator and of cert-manager into a folder, in the layout that kubeconform reads
// with -schema-location 'DIR/{{.ResourceKind}}{{.KindSuffix}}.json'.
//
// The sources are in three Go modules, pinned in tools/kubeschema.mod, so that they
// are checked and cached as all other code is; the usual schemas are files on a
// web server.
//
//	kubeschema DIR
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/goccy/go-yaml"
)

const modfile = "tools/kubeschema.mod"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage, from the repository's root: kubeschema DIR")
		os.Exit(2)
	}
	if err := write(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "kubeschema:", err)
		os.Exit(1)
	}
}

// write fetches the pinned modules and writes their schemas into dir.
func write(ctx context.Context, dir string) error {
	sources, err := download(ctx)
	if err != nil {
		return err
	}
	swagger, err := os.ReadFile(filepath.Join(sources["k8s.io/kubernetes"], "api/openapi-spec/swagger.json"))
	if err != nil {
		return err
	}
	files, err := fromSwagger(swagger)
	if err != nil {
		return fmt.Errorf("read swagger.json of Kubernetes: %w", err)
	}
	for _, of := range []struct{ module, files string }{
		{"github.com/prometheus-operator/prometheus-operator", "jsonnet/prometheus-operator/*-crd.json"},
		{"github.com/cert-manager/cert-manager", "deploy/crds/*.yaml"},
	} {
		crds, err := filepath.Glob(filepath.Join(sources[of.module], of.files))
		if err != nil {
			return err
		}
		if len(crds) == 0 {
			return fmt.Errorf("find the CRDs of %s: no %s", of.module, of.files)
		}
		for _, file := range crds {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			crd, err := yaml.YAMLToJSON(text) // JSON is YAML
			if err != nil {
				return fmt.Errorf("read %s of %s: %w", filepath.Base(file), of.module, err)
			}
			if err := fromCRD(crd, files); err != nil {
				return fmt.Errorf("read %s of %s: %w", filepath.Base(file), of.module, err)
			}
		}
	}
	for name, schema := range files {
		content, err := json.Marshal(schema)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// download returns the folder of each module that the module file requires,
// checked against its sums.
func download(ctx context.Context) (map[string]string, error) {
	var mod struct {
		Require []struct{ Path, Version string }
	}
	if err := goJSON(ctx, &mod, "mod", "edit", "-json", modfile); err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	for _, r := range mod.Require {
		var module struct{ Dir string }
		// By version: without one, go would ask for the module's whole graph.
		if err := goJSON(ctx, &module, "mod", "download", "-json", "-modfile="+modfile, r.Path+"@"+r.Version); err != nil {
			return nil, err
		}
		dirs[r.Path] = module.Dir
	}
	return dirs, nil
}

func goJSON(ctx context.Context, into any, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%v: %w", cmd, err)
	}
	return json.Unmarshal(out, into)
}
