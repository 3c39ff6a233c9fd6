// Package migrations holds the SQL that makes and changes the tables of both
// databases, in goose's format, and nothing else. The drivers apply it.
//
// Rules for a new file: take the next number, never edit a released one,
// expand in one minor version and contract in the next, and end with an UPDATE
// of the row in schema. Its version is the file's number; oldest_compatible is
// the lowest number whose binaries can work on the result, so that the release
// before always runs on the schema of the release after.
package migrations

import "embed"

// Postgres and SQLite hold the files of one database each, in a folder of the
// same name in lower case.
var (
	//go:embed postgres/*.sql
	Postgres embed.FS
	//go:embed sqlite/*.sql
	SQLite embed.FS
)
