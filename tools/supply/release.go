package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/weir-metrics/weir/tools/supply/image"
	"github.com/weir-metrics/weir/tools/supply/release"
)

// documents are what an archive of binaries has besides.
var documents = []string{"LICENSE", "README.md", "CHANGELOG.md", "deploy/systemd/weir.service", "deploy/systemd/weir-collector.service", "deploy/systemd/weir-exposer.service"}

// makeRelease writes all files of a release into an empty folder. Whatever is built on
// the way is below it in .build, which is removed at the end.
func makeRelease(dir, tag string) error {
	source, err := release.Tagged(".", tag)
	if err != nil {
		return err
	}
	next, err := release.Next(".")
	if err != nil {
		return err
	}
	if next != source.Version {
		return fmt.Errorf("the tag is %s, and deploy/helm/weir/Chart.yaml says %s", tag, next)
	}
	changelog, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		return err
	}
	section, err := release.Section(string(changelog), source.Version)
	if err != nil {
		return err
	}
	if _, err := ownLicence("."); err != nil {
		return fmt.Errorf("a release needs a licence, which its owner chooses: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("folder of the release: %w", err)
	}
	work := filepath.Join(dir, ".build")
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"binaries", func() error { return buildBinaries(work, source) }},
		{"archives", func() error { return archives(dir, work, source) }},
		{"images", func() error { return images(dir, work, source) }},
		{"source", func() error { return sources(dir, source) }},
		{"chart", func() error { return chart(dir, work, source) }},
		{"release notes", func() error { return os.WriteFile(filepath.Join(dir, "release-notes.md"), []byte(section), 0o644) }},
		{"clean up", func() error { return os.RemoveAll(work) }},
		{"checksums", func() error { return release.Sums(dir) }},
	} {
		began := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Printf("release: %s (%s)\n", step.what, time.Since(began).Round(100*time.Millisecond))
	}
	return nil
}

// built is the folder of a platform's binaries.
func built(work string, p platform) string { return filepath.Join(work, p.String()) }

func buildBinaries(work string, source release.Source) error {
	for _, p := range platforms {
		args := []string{"build", "-trimpath", "-buildvcs=true", "-o", built(work, p) + string(filepath.Separator), "-ldflags", "-s -w -X " + ours + "/internal/cli.version=" + source.Version}
		for _, b := range binaries {
			args = append(args, b.main)
		}
		cmd := exec.Command("go", args...)
		// The settings of whoever releases must not reach what is released.
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off")
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build for %s: %w", p, err)
		}
	}
	return nil
}

// archives writes an archive of all binaries for each platform, and their bills beside it.
func archives(dir, work string, source release.Source) error {
	for _, p := range platforms {
		all, err := bills(built(work, p), source.Tag())
		if err != nil {
			return err
		}
		for name, text := range all {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s.%s.cdx.json", name, source.Version, p)), text, 0o644); err != nil {
				return err
			}
		}
		modules, err := linked([]platform{p}, names()...)
		if err != nil {
			return err
		}
		licences, err := notices(modules)
		if err != nil {
			return err
		}
		notice := filepath.Join(work, p.String()+".licences")
		if err := os.WriteFile(notice, licences, 0o644); err != nil {
			return err
		}
		members := []release.Member{{Name: "LICENSES-third-party.txt", From: notice}}
		for _, d := range documents {
			members = append(members, release.Member{Name: filepath.Base(d), From: d})
		}
		for _, name := range names() {
			members = append(members, release.Member{Name: name, From: filepath.Join(built(work, p), name), Executable: true})
		}
		folder := fmt.Sprintf("weir-%s.%s", source.Version, p)
		if err := release.Archive(filepath.Join(dir, folder+".tar.gz"), folder, source.Time, members); err != nil {
			return err
		}
	}
	return nil
}

// repository is the path of the images with its registry: containerd keeps an image under the
// name that an archive gives, and Kubernetes asks it for the full one.
const repository = "docker.io/weir"

// images writes an OCI archive for each stage of the Dockerfile, with its Linux platforms.
func images(dir, work string, source release.Source) error {
	var contexts []image.Context
	for _, p := range platforms {
		if p.os != "linux" {
			continue
		}
		if err := os.Mkdir(filepath.Join(built(work, p), "data"), 0o755); err != nil {
			return err
		}
		contexts = append(contexts, image.Context{OS: p.os, Architecture: p.arch, Dir: built(work, p)})
	}
	return writeImages(dockerfile, contexts, repository, source, dir)
}

// makeImages writes the images of a Dockerfile for this machine's architecture, from a folder
// of files that are there already.
func makeImages(dockerfile, context, repository, version, revision, dir string) error {
	source, err := release.At(".", revision, version)
	if err != nil {
		return err
	}
	return writeImages(dockerfile, []image.Context{{OS: "linux", Architecture: runtime.GOARCH, Dir: context}}, repository, source, dir)
}

func writeImages(dockerfile string, contexts []image.Context, repository string, source release.Source, dir string) error {
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		return err
	}
	stages, err := image.Parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", dockerfile, err)
	}
	for _, s := range stages {
		index, err := image.Build(s, source, contexts)
		if err != nil {
			return err
		}
		if err := image.Write(filepath.Join(dir, fmt.Sprintf("%s-%s.oci.tar", s.Name, source.Version)), index, repository+"/"+s.Name, source.Version); err != nil {
			return err
		}
	}
	return nil
}

// sources writes what git has of the commit.
func sources(dir string, source release.Source) error {
	folder := "weir-" + source.Version
	cmd := exec.Command("git", "-c", "tar.umask=0022", "archive", "--format=tar", "--prefix="+folder+"/", source.Revision)
	cmd.Stderr = os.Stderr
	packed, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("git archive: %w", err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err = z.Write(packed)
	if err := errors.Join(err, z.Close()); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, folder+".src.tar.gz"), b.Bytes(), 0o644)
}

// chart writes the chart's package. Helm decides what belongs to it; it is packed again,
// since Helm writes the time at which it packs.
func chart(dir, work string, source release.Source) error {
	list := exec.Command("go", "tool", "-modfile=tools/helm.mod", "-n", "helm")
	list.Env, list.Stderr = append(os.Environ(), "GOWORK=off"), os.Stderr
	helm, err := list.Output()
	if err != nil {
		return fmt.Errorf("build helm: %w", err)
	}
	pack := exec.Command(strings.TrimSpace(string(helm)), "package", "--destination", work, filepath.Join("deploy", "helm", "weir"))
	if out, err := pack.CombinedOutput(); err != nil {
		return fmt.Errorf("helm package: %w\n%s", err, out)
	}
	name := fmt.Sprintf("weir-%s.tgz", source.Version)
	unpacked := filepath.Join(work, "chart")
	if err := unpack(filepath.Join(work, name), unpacked); err != nil {
		return err
	}
	members, err := release.Under(filepath.Join(unpacked, "weir"))
	if err != nil {
		return err
	}
	return release.Archive(filepath.Join(dir, name), "weir", source.Time, members)
}

// unpack writes the files of a .tar.gz below a folder.
func unpack(path, dir string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	z, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for r := tar.NewReader(z); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if !filepath.IsLocal(header.Name) {
			return fmt.Errorf("%s: %q leads out of the archive", path, header.Name)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		to := filepath.Join(dir, header.Name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := os.WriteFile(to, content, header.FileInfo().Mode().Perm()); err != nil {
			return err
		}
	}
}

// inspect reads a release again: every binary is of its platform, static, of the commit
// and of no other; the one of this machine runs; every image is whole and has the same
// binary. It prints what they say.
func inspect(w io.Writer, dir, version, revision string) error {
	work, err := os.MkdirTemp("", "weir-release-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }() // of a folder for temporary files
	var wrong []error
	for _, p := range platforms {
		folder := fmt.Sprintf("weir-%s.%s", version, p)
		if err := unpack(filepath.Join(dir, folder+".tar.gz"), work); err != nil {
			return err
		}
		for _, name := range names() {
			path := filepath.Join(work, folder, name)
			if err := inspectBinary(path, p, revision); err != nil {
				wrong = append(wrong, fmt.Errorf("%s/%s: %w", folder, name, err))
			}
			if p != (platform{runtime.GOOS, runtime.GOARCH}) {
				continue
			}
			out, err := exec.Command(path, "--version").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s --version: %w\n%s", path, err, out)
			}
			fmt.Fprintf(w, "%s", out)
			if want := fmt.Sprintf("%s %s (revision %s, %s, %s/%s)\n", name, version, revision, runtime.Version(), p.os, p.arch); string(out) != want {
				wrong = append(wrong, fmt.Errorf("%s --version says %q, want %q", path, out, want))
			}
		}
		if p.os == "linux" {
			wrong = append(wrong, checkStatic(filepath.Join(work, folder)))
		}
	}
	for _, name := range names() {
		path := filepath.Join(dir, fmt.Sprintf("%s-%s.oci.tar", name, version))
		if err := inspectImage(w, path, name, work, version, revision); err != nil {
			wrong = append(wrong, err)
		}
	}
	return errors.Join(wrong...)
}

func inspectBinary(path string, p platform, revision string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	var wrong []error
	for key, want := range map[string]string{"GOOS": p.os, "GOARCH": p.arch, "CGO_ENABLED": "0", "-trimpath": "true", "vcs.revision": revision, "vcs.modified": "false"} {
		if settings[key] != want {
			wrong = append(wrong, fmt.Errorf("built with %s %q, want %q", key, settings[key], want))
		}
	}
	return errors.Join(wrong...)
}

func inspectImage(w io.Writer, path, name, work, version, revision string) error {
	index, err := image.Read(path, filepath.Join(work, name+".oci"))
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, m := range manifest.Manifests {
		one, err := index.Image(m.Digest)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		config, err := one.ConfigFile()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		labels := config.Config.Labels
		fmt.Fprintf(w, "%s %s/%s: user %s, entrypoint %q, command %q, created %s, %s\n", filepath.Base(path), config.OS, config.Architecture,
			config.Config.User, config.Config.Entrypoint, config.Config.Cmd, config.Created.Format(time.RFC3339), labels[licenceLabel])
		if labels["org.opencontainers.image.version"] != version || labels["org.opencontainers.image.revision"] != revision {
			return fmt.Errorf("%s: labels %q, want version %s and revision %s", path, labels, version, revision)
		}
		layers, err := one.Layers()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if len(layers) == 0 || len(config.Config.Entrypoint) == 0 {
			return fmt.Errorf("%s has %d layers and the entrypoint %q", path, len(layers), config.Config.Entrypoint)
		}
		content, err := layers[0].Uncompressed()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		r := tar.NewReader(content)
		header, err := r.Next()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if "/"+header.Name != config.Config.Entrypoint[0] {
			return fmt.Errorf("%s: the first file is %s, want the entrypoint %q", path, header.Name, config.Config.Entrypoint)
		}
		inside, err := io.ReadAll(r)
		if err := errors.Join(err, content.Close()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		shipped, err := os.ReadFile(filepath.Join(work, fmt.Sprintf("weir-%s.%s", version, platform{config.OS, config.Architecture}), name))
		if err != nil {
			return err
		}
		if !bytes.Equal(inside, shipped) {
			return fmt.Errorf("%s: its binary for %s/%s is not the one in the archive", path, config.OS, config.Architecture)
		}
	}
	if len(manifest.Manifests) != 2 {
		return fmt.Errorf("%s has %d platforms, want 2", path, len(manifest.Manifests))
	}
	return nil
}
