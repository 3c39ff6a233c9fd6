package export

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Cleaned is what clean removed, and what it left.
type Cleaned struct {
	Removed []string `json:"removed"`
	// Kept are files that are not as the export left them, with the reason.
	Kept []string `json:"kept,omitempty"`
}

// Clean removes what the manifest of a folder names, and nothing else: the folder itself
// only if it is then empty. With dry it only tells.
func Clean(folder string, dry bool) (*Cleaned, error) {
	folder = filepath.Clean(folder)
	if info, err := os.Lstat(folder); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil, fmt.Errorf("%s is a symbolic link, which no export makes: name the folder that it points to", folder)
	}
	release, err := Hold(folder)
	if err != nil {
		return nil, err
	}
	defer release()
	m, err := Load(folder)
	if err != nil {
		return nil, err
	}
	c := &Cleaned{Removed: []string{}}
	var failed error
	remove := func(path string, what func(string) error) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return
		}
		if !dry {
			if err := what(path); err != nil {
				failed = errors.Join(failed, fmt.Errorf("remove %s: %w", path, err))
				return
			}
		}
		c.Removed = append(c.Removed, path)
	}
	for _, f := range m.Files {
		path := filepath.Join(folder, f.Name)
		remove(path+".tmp", os.Remove)
		if _, err := os.Lstat(path); err == nil && f.Done {
			if err := f.Check(folder); err != nil {
				c.Kept = append(c.Kept, err.Error())
				continue
			}
		}
		remove(path, os.Remove)
	}
	remove(filepath.Join(folder, partName), os.Remove)
	for _, name := range m.Others {
		remove(filepath.Join(folder, name), os.Remove)
		remove(filepath.Join(folder, name)+".tmp", os.Remove)
	}
	for _, path := range m.Staging {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		release, err := Hold(filepath.Dir(path)) // a copy of the export may be at work there
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		remove(path, os.RemoveAll)
		release()
	}
	if failed != nil || len(c.Kept) > 0 {
		return c, failed // the manifest stays while there is something that it names
	}
	remove(filepath.Join(folder, ManifestName+".tmp"), os.Remove)
	remove(filepath.Join(folder, ManifestName), os.Remove)
	entries, err := os.ReadDir(folder)
	foreign := func(e os.DirEntry) bool { return !slices.Contains(c.Removed, filepath.Join(folder, e.Name())) }
	if err == nil && !slices.ContainsFunc(entries, foreign) {
		remove(folder, os.Remove)
	}
	return c, failed
}
