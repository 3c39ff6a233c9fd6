package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Member is a file of an archive.
type Member struct {
	Name string
	// From is the file with its content.
	From       string
	Executable bool
}

// Archive writes a .tar.gz of members below one folder, in their order, as of a time and
// with no trace of who has packed it.
func Archive(path, folder string, modified time.Time, members []Member) error {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	for _, m := range members {
		content, err := os.ReadFile(m.From)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: folder + "/" + m.Name, Size: int64(len(content)), Mode: 0o644, ModTime: modified.UTC(), Format: tar.FormatPAX}
		if m.Executable {
			header.Mode = 0o755
		}
		if err := w.WriteHeader(header); err != nil {
			return fmt.Errorf("%s: %s: %w", path, m.Name, err)
		}
		if _, err := w.Write(content); err != nil {
			return fmt.Errorf("%s: %s: %w", path, m.Name, err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, packed.Bytes(), 0o644)
}

// SumsFile has the checksums of a release, as sha256sum -c reads them.
const SumsFile = "SHA256SUMS"

// Sums writes the checksums of all files in a folder.
func Sums(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, f := range files {
		if f.Name() == SumsFile {
			continue
		}
		sum, err := hash(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sum, f.Name())
	}
	return os.WriteFile(filepath.Join(dir, SumsFile), []byte(b.String()), 0o644)
}

func hash(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("checksum of %s: %w", path, err)
	}
	return sum.Sum(nil), nil
}

// Under lists the regular files below a folder as members, by their names.
func Under(dir string) ([]Member, error) {
	var members []Member
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no regular file", path)
		}
		name, err := filepath.Rel(dir, path)
		members = append(members, Member{Name: filepath.ToSlash(name), From: path})
		return err
	})
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return members, err
}
