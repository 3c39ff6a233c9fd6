package standalone

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/weir-metrics/weir/internal/cli"
)

// tokenFile is where weir run keeps the admin token of a SQLite file, and where the
// commands look for it.
func tokenFile(sqlite string) string { return sqlite + ".admin-token" }

// adminToken returns the admin token beside a SQLite file, and creates it at the first
// start. Whoever may read the file has admin access, which is the user that runs weir.
func adminToken(sqlite string) (cli.Secret, error) {
	file := tokenFile(sqlite)
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
	case err != nil:
		return cli.Secret{}, fmt.Errorf("create the admin token: %w", err)
	default:
		var token [32]byte
		_, _ = rand.Read(token[:]) // never fails (crypto/rand since Go 1.24)
		_, err := fmt.Fprintln(f, hex.EncodeToString(token[:]))
		if err = errors.Join(err, f.Close()); err != nil {
			return cli.Secret{}, errors.Join(fmt.Errorf("write the admin token %s: %w", file, err), os.Remove(file))
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		return cli.Secret{}, fmt.Errorf("admin token: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return cli.Secret{}, fmt.Errorf("admin token %s has mode %04o, so others can read it; run chmod 600 %s, or remove the file to get a new token", file, mode, file)
	}
	secret, err := cli.ReadSecret(file)
	if err != nil {
		return cli.Secret{}, fmt.Errorf("admin token: %w", err)
	}
	return secret, nil
}
