package export

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// The names in a folder that are not exports.
const (
	ManifestName = "manifest.json"
	partName     = "part.tmp" // the name of a part until it is open
	format       = "weir-export-1"
)

// stagingName are the names of folders in a data folder in which blocks are made. Prometheus
// loads no folder of such a name.
var stagingName = regexp.MustCompile(`^\.weir-import-[0-9a-f]{8}$`)

// StagingIn is the folder in a data folder in which the blocks of this export alone are
// made: that of an import before, or a new one.
func (m *Manifest) StagingIn(dataDir, folder string) (string, error) {
	for _, path := range m.Staging {
		if filepath.Dir(path) == dataDir {
			return path, nil
		}
	}
	path, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(dataDir, ".weir-import-"+hex.EncodeToString(sum[:4])), nil
}

// Label is a label that is written into every sample.
type Label struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Manifest describes a folder.
type Manifest struct {
	Format          string      `json:"format"`
	StoreID         string      `json:"store_id"`
	SampleTimestamp string      `json:"sample_timestamp"`
	Start           bucket.Time `json:"start_unix_seconds"`
	End             bucket.Time `json:"end_unix_seconds"`
	Datasets        []string    `json:"datasets,omitempty"`
	Zones           []string    `json:"zones,omitempty"`
	Restated        bool        `json:"as_restated,omitempty"`
	// MissingOnly is the checksum of the findings that were selected.
	MissingOnly string  `json:"missing_only_sha256,omitempty"`
	Labels      []Label `json:"labels"`
	Files       []File  `json:"files"`
	// Others are further files and folders that commands have made in the folder.
	Others []string `json:"others,omitempty"`
	// Staging are folders elsewhere that an import has made.
	Staging []string `json:"staging,omitempty"`
}

// File is a part of the range.
type File struct {
	Name    string        `json:"name"`
	Start   bucket.Time   `json:"start_unix_seconds"`
	End     bucket.Time   `json:"end_unix_seconds"`
	Done    bool          `json:"done"`
	Samples int64         `json:"samples"` // 0 of a file that is done: it was not written
	Bytes   int64         `json:"bytes"`
	SHA256  string        `json:"sha256,omitempty"`
	First   sample.Millis `json:"first_ms,omitempty"`
	Last    sample.Millis `json:"last_ms,omitempty"`
	// Unreadable are stored buckets that the file lacks, since they could not be read.
	Unreadable int64 `json:"buckets_unreadable,omitempty"`
}

// Load reads the manifest of a folder.
func Load(folder string) (*Manifest, error) {
	data, err := os.ReadFile(filepath.Join(folder, ManifestName))
	if err != nil {
		return nil, fmt.Errorf("read the manifest of an export: %w", err)
	}
	m := &Manifest{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("read the manifest of an export in %s: %w", folder, err)
	}
	if m.Format != format {
		return nil, fmt.Errorf("manifest in %s has format %q; this release reads %q", folder, m.Format, format)
	}
	for _, name := range append(m.names(), m.Others...) {
		if name == "" || filepath.Base(name) != name || name == "." || name == ".." {
			return nil, fmt.Errorf("manifest in %s names %q, which is not a name inside the folder", folder, name)
		}
	}
	for _, path := range m.Staging {
		if !filepath.IsAbs(path) || !stagingName.MatchString(filepath.Base(path)) {
			return nil, fmt.Errorf("manifest in %s names the folder %q, which no import makes", folder, path)
		}
	}
	return m, nil
}

func (m *Manifest) names() (names []string) {
	for _, f := range m.Files {
		names = append(names, f.Name)
	}
	return names
}

// Save writes the manifest so that it is there whole, or as it was.
func (m *Manifest) Save(folder string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := WriteWhole(filepath.Join(folder, ManifestName), append(data, '\n')); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	return nil
}

// WriteWhole writes a file through a temporary one beside it, named after it with .tmp.
func WriteWhole(path string, data []byte) error {
	next := path + ".tmp"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Check compares a file with the manifest. The error says what differs.
func (f *File) Check(folder string) error {
	path := filepath.Join(folder, f.Name)
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("file %s has changed since it was exported: it is not a regular file", path)
	}
	r, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("check an exported file: %w", err)
	}
	defer r.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	switch got := hex.EncodeToString(sum.Sum(nil)); {
	case err != nil:
		return fmt.Errorf("check an exported file: %w", err)
	case n != f.Bytes || got != f.SHA256:
		return fmt.Errorf("file %s has changed since it was exported: it has %d bytes and SHA-256 %s, the manifest says %d and %s", path, n, got, f.Bytes, f.SHA256)
	}
	return nil
}

// Same reports whether another export has the same content, apart from progress, and from
// its division into files, which depends on how many zones there are.
func (m *Manifest) same(o *Manifest) bool {
	a, b := *m, *o
	for _, x := range []*Manifest{&a, &b} {
		x.Files, x.Others, x.Staging = nil, nil, nil
	}
	one, err1 := json.Marshal(a)
	two, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(one) == string(two)
}

// Open prepares a folder for an export: an empty one, or one of the same export that was
// interrupted.
func (m *Manifest) open(folder string) error {
	old, err := Load(folder)
	switch {
	case err == nil && !old.same(m):
		return fmt.Errorf("folder %s has another export (of %s to %s): use another folder, or remove that one with weir backfill clean", folder, old.Start, old.End)
	case err == nil:
		*m = *old
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("read the folder of the export: %w", err)
	}
	for _, e := range entries {
		if e.Name() != ManifestName+".tmp" { // of a manifest that was not finished
			return fmt.Errorf("folder %s has %s, and no manifest: use an empty folder", folder, e.Name())
		}
	}
	return m.Save(folder)
}
