package postgres

// WriterRights are the rights of a collector's role, as GRANT spells them.
func WriterRights() []string {
	out := make([]string, len(writerRights))
	for i, r := range writerRights {
		out[i] = r.String()
	}
	return out
}

// SchemaVersion is the newest migration.
const SchemaVersion = schemaVersion
