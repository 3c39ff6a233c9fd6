package release

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// Publish puts the library modules of a commit into a folder as a module proxy serves
// them once they are tagged: GOPROXY=file://dir. They are made by the code of the go
// command.
func Publish(dir, root string, s Source) error {
	for _, folder := range Library {
		m := module.Version{Path: Root + "/" + folder, Version: s.Tag()}
		at := filepath.Join(dir, filepath.FromSlash(m.Path), "@v")
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		var archive bytes.Buffer
		if err := zip.CreateFromVCS(&archive, m, root, s.Revision, folder); err != nil {
			return fmt.Errorf("module %s: %w", m, err)
		}
		show := exec.Command("git", "show", s.Revision+":"+folder+"/go.mod")
		show.Dir = root
		gomod, err := show.Output()
		if err != nil {
			return fmt.Errorf("module %s: %w", m, err)
		}
		info, err := json.Marshal(map[string]any{"Version": m.Version, "Time": s.Time})
		if err != nil {
			return err
		}
		for name, content := range map[string][]byte{
			"list": []byte(m.Version + "\n"), m.Version + ".info": info, m.Version + ".mod": gomod, m.Version + ".zip": archive.Bytes(),
		} {
			if err := os.WriteFile(filepath.Join(at, name), content, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
