// Command mkimage makes images from deploy/Dockerfile without a container engine: OCI
// layouts in a tar each, as "ctr images import" takes them. It knows the instructions that
// a stage FROM scratch needs, and refuses others.
//
//	mkimage -f deploy/Dockerfile -target weir -name local/weir:1 -o weir.tar CONTEXT_DIR
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

func main() {
	file := flag.String("f", "Dockerfile", "the Dockerfile")
	target := flag.String("target", "", "the stage to build")
	name := flag.String("name", "", "the image's name, with its tag")
	out := flag.String("o", "", "where the tar goes")
	flag.Parse()
	if flag.NArg() != 1 || *target == "" || *name == "" || *out == "" {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*file, *target, *name, *out, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run(file, target, name, out, context string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	img, err := stage(string(text), target, os.DirFS(context))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	packed, err := img.layout(name)
	if err != nil {
		return err
	}
	return os.WriteFile(out, packed, 0o644)
}

// image is what the instructions of a stage amount to.
type image struct {
	config map[string]any // config of the OCI image
	files  []entry        // the one layer
}

// stage reads a stage of a Dockerfile whose base is scratch.
func stage(text, target string, context fs.FS) (image, error) {
	img, in, found := image{config: map[string]any{}}, false, false
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		if word == "FROM" {
			in = strings.TrimSpace(rest) == "scratch AS "+target
			found = found || in
			continue
		}
		if !in {
			continue
		}
		if err := img.instruct(word, strings.TrimSpace(rest), context); err != nil {
			return image{}, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	if !found {
		return image{}, fmt.Errorf("it has no stage FROM scratch AS %s", target)
	}
	return img, nil
}

func (img *image) instruct(word, rest string, context fs.FS) error {
	switch word {
	case "LABEL", "EXPOSE", "VOLUME": // nothing that Kubernetes goes by
		return nil
	case "USER":
		img.config["User"] = rest
		return nil
	case "WORKDIR":
		img.config["WorkingDir"] = rest
		return nil
	case "ENTRYPOINT", "CMD":
		var words []string
		if err := json.Unmarshal([]byte(rest), &words); err != nil {
			return fmt.Errorf("%s %s: %w", word, rest, err)
		}
		img.config[map[string]string{"ENTRYPOINT": "Entrypoint", "CMD": "Cmd"}[word]] = words
		return nil
	case "COPY":
		return img.copy(strings.Fields(rest), context)
	}
	return fmt.Errorf("the instruction %s is not known", word)
}

// copy adds a file, or a folder without what is in it.
func (img *image) copy(args []string, context fs.FS) error {
	e := entry{}
	if owner, given := strings.CutPrefix(args[0], "--chown="); given {
		user, group, _ := strings.Cut(owner, ":")
		uid, err := strconv.Atoi(user)
		gid, err2 := strconv.Atoi(group)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		e.uid, e.gid, args = uid, gid, args[1:]
	}
	if len(args) != 2 {
		return fmt.Errorf("COPY takes one source and one destination, not %q", args)
	}
	info, err := fs.Stat(context, args[0])
	if err != nil {
		return err
	}
	e.name = strings.TrimPrefix(path.Clean(args[1]), "/")
	e.mode = int64(info.Mode().Perm())
	if info.IsDir() {
		e.name += "/"
	} else if e.data, err = fs.ReadFile(context, args[0]); err != nil {
		return err
	}
	img.files = append(img.files, e)
	return nil
}

// layout is the image as an OCI layout in a tar.
func (img image) layout(name string) ([]byte, error) {
	layer, err := archive(img.files...)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	gz, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := gz.Write(layer); err != nil {
		return nil, err
	}
	if err := gz.Close(); err != nil {
		return nil, err
	}
	var blobs []entry
	blob := func(kind string, data []byte) map[string]any {
		blobs = append(blobs, entry{name: "blobs/sha256/" + digest(data), mode: 0o644, data: data})
		return map[string]any{"mediaType": kind, "digest": "sha256:" + digest(data), "size": len(data)}
	}
	layers := []any{blob("application/vnd.oci.image.layer.v1.tar+gzip", packed.Bytes())}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": img.config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": blob("application/vnd.oci.image.config.v1+json", config), "layers": layers,
	})
	if err != nil {
		return nil, err
	}
	described := blob("application/vnd.oci.image.manifest.v1+json", manifest)
	described["annotations"] = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
	index, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []any{described},
	})
	if err != nil {
		return nil, err
	}
	return archive(append(blobs, entry{name: "index.json", mode: 0o644, data: index},
		entry{name: "oci-layout", mode: 0o644, data: []byte(`{"imageLayoutVersion":"1.0.0"}`)})...)
}

// entry is a file of a tar; a folder's name ends with a slash.
type entry struct {
	name     string
	mode     int64
	uid, gid int
	data     []byte
}

// archive is the files as a tar without times, so that the same binary makes the same image.
func archive(files ...entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: filepath.ToSlash(f.name), Mode: f.mode, Uid: f.uid, Gid: f.gid, Size: int64(len(f.data)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func digest(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
