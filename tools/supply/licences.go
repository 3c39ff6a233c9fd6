package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

var licenceFile = filepath.Join("docs", "licences.md")

// accepted are the licences, by their SPDX identifiers, under which code may be
// linked: those that ask for a notice, and the Mozilla one, whose copyleft ends
// at its own files.
var accepted = []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MPL-2.0", "Unlicense", "Zlib"}

// names of files that hold a licence. PATENTS grants more rights, never fewer.
var licenceName = regexp.MustCompile(`(?i)^(licen[sc]e|copying|copyright|unlicense)([-_.].*)?$`)

// reviewed are files that are no licence's text and that somebody has read, by
// the hash of what was read: when a new version changes them, somebody must read
// again. They name what is accepted, or "public domain", or nothing that is
// linked.
var reviewed = map[string][]string{
	// go-grpc-middleware, COPYRIGHT: two lines that say so.
	"8befb41eac649775143c81fddaf84b7d7e1197899d968b8b51cfec405f2ff72f": {"Apache-2.0"},
	// modernc.org/memory, LICENSE-LOGO: where the picture in its readme is from.
	"5ae5bee3072a841376451b48d8cfcec7188e10543926d5870828d36c8a750dc5": {},
	// modernc.org/libc, LICENSE-3RD-PARTY.md: Go, musl with its parts, go-netdb, nixpkgs.
	"f597097efe3d97021f89170746bd3a0fb9a8b6fb26b82043ed68a4e0283bee6c": {"BSD-2-Clause", "BSD-3-Clause", "MIT", publicDomain},
	// modernc.org/sqlite, LICENSE-3RD-PARTY.md: SQLite itself, and modules that stand here too.
	"b4366b9c27a9364633e015011a231913ed19bf1228f335bf617e50a6f7b168a6": {"BSD-3-Clause", "MIT", publicDomain},
	// modernc.org/sqlite, LICENSE-SQLITE: SQLite's dedication to the public domain.
	"8438c9c89b849131ead81d5435cb97fcf052df5b0b286dda8a2d4c29e6cb3fd0": {publicDomain},
}

const publicDomain = "public domain" // SPDX has no identifier for it

// least is how much of a file, in percent, must be the text of known licences:
// the rest is names and years.
const least = 75

// text is a file that holds a licence.
type text struct {
	path    string
	content []byte
}

// texts are the licence files of a module, each folder's in turn.
func texts(m module) ([]text, error) {
	var all []text
	for _, dir := range m.folders {
		files, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("licence of %s: %w", m.path, err)
		}
		for _, f := range files {
			if f.IsDir() || !licenceName.MatchString(f.Name()) || strings.HasSuffix(f.Name(), ".go") {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				return nil, fmt.Errorf("licence of %s: %w", m.path, err)
			}
			all = append(all, text{filepath.Join(dir, f.Name()), content})
		}
	}
	return all, nil
}

// licences are the identifiers of all licences of a module.
func licences(m module) ([]string, error) {
	files, err := texts(m)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, f := range files {
		ids, err := identify(f.content)
		if err != nil {
			return nil, fmt.Errorf("licence of %s: %s: %w", m.path, filepath.Base(f.path), err)
		}
		for _, id := range ids {
			found[id] = true
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s %s has no licence", m.path, m.version)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// notices are the texts of the licences of modules, which whoever passes binaries on must
// pass on too. Equal texts stand once.
func notices(modules []module) ([]byte, error) {
	var order []string
	owners := map[string][]string{}
	for _, m := range modules {
		files, err := texts(m)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			content := string(bytes.TrimSpace(f.content))
			if owners[content] == nil {
				order = append(order, content)
			}
			if name := m.path + " " + m.version; !slices.Contains(owners[content], name) {
				owners[content] = append(owners[content], name)
			}
		}
	}
	var page bytes.Buffer
	page.WriteString("Licences of what is linked into these programs.\n")
	for _, content := range order {
		fmt.Fprintf(&page, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(owners[content], "\n"), content)
	}
	return page.Bytes(), nil
}

// identify names the licences in a text and refuses what is not accepted.
func identify(text []byte) ([]string, error) {
	hash := sha256.Sum256(text)
	if ids, read := reviewed[hex.EncodeToString(hash[:])]; read {
		return ids, nil
	}
	cover := licensecheck.Scan(text)
	if cover.Percent < least {
		return nil, fmt.Errorf("only %.0f%% of the text is a known licence; a person must read it, and add %x to those that were", cover.Percent, hash)
	}
	var ids []string
	for _, m := range cover.Match {
		if !slices.Contains(accepted, m.ID) {
			return nil, fmt.Errorf("%s is not among the licences that are accepted (%s)", m.ID, strings.Join(accepted, ", "))
		}
		ids = append(ids, m.ID)
	}
	return ids, nil
}

// licencePage is docs/licences.md, or every licence that is refused.
func licencePage() ([]byte, error) {
	modules, err := linked(platforms, names()...)
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	page.WriteString("<!-- Generated by tools/supply; `make licences` writes it. -->\n\n# Licences\n\n" +
		"What is linked into the binaries, and under which licence: as found in the modules'\n" +
		"own files, those of the folders of linked packages included. `make check` refuses\n" +
		"what is unknown and what obliges more than MPL-2.0 does.\n\n" +
		"| module | version | licence | in |\n| --- | --- | --- | --- |\n")
	var refused []error
	for _, m := range modules {
		ids, err := licences(m)
		if err != nil {
			refused = append(refused, err)
			continue
		}
		version := m.version
		if m.path == standardLibrary {
			version = "of the toolchain" // which is not the same everywhere
		}
		fmt.Fprintf(&page, "| %s | %s | %s | %s |\n", m.path, version, strings.Join(ids, ", "), strings.Join(m.in, ", "))
	}
	return page.Bytes(), errors.Join(refused...)
}

func checkLicences() error {
	now, err := licencePage()
	if err != nil {
		return err
	}
	written, err := os.ReadFile(licenceFile)
	if err != nil {
		return err
	}
	if !bytes.Equal(written, now) {
		return fmt.Errorf("%s is not what is linked: run make licences and read the difference", licenceFile)
	}
	return nil
}
