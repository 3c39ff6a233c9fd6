package postgres

import (
	"strings"
	"testing"
)

// A string that pgx would take for settings with strange names, and connect to
// the default host with, cannot be right.
func TestCheckDSN(t *testing.T) {
	for dsn, right := range map[string]bool{
		"postgres://u:hunter2@h/d?sslmode=disable":       true,
		"postgresql://h/d":                               true,
		"host=h user=u password='hunter2 two'":           true,
		"  host = h\npassword=hunter2":                   true,
		"password=a://hunter2":                           true,
		`"postgres://u:hunter2@h/d?sslmode=disable"`:     false,
		"'postgres://u:hunter2@h/d?sslmode=disable'":     false,
		"\ufeffpostgres://u:hunter2@h/d?sslmode=disable": false,
		"WEIR_DATABASE_URL=postgres://u:hunter2@h/d":     false,
		"mysql://u:hunter2@h/d?a=b":                      false,
		`"host=h password=hunter2"`:                      false,
		"postgres://u:hunter2@h:port/d":                  false,
	} {
		err := CheckDSN(dsn)
		if (err == nil) != right || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v, want one: %t", dsn, err, !right)
		}
	}
}
