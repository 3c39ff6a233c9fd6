package store

import "time"

// Facts is what a database says about itself, for reports. A nil pointer means that
// this kind of database does not have the property, or that it cannot be asked for it.
type Facts struct {
	Driver   string `json:"driver"`  // "postgres" or "sqlite"
	Version  string `json:"version"` // of the server or the library
	Major    int    `json:"major"`   // of the server; 0 for SQLite
	Encoding string `json:"encoding"`

	Schema     Schema `json:"schema"`
	SchemaWant int    `json:"schema_want"` // of this binary

	StoreID   string    `json:"store_id"`
	Simulated bool      `json:"simulated"`
	Head      uint64    `json:"head"`
	Term      uint64    `json:"term"`
	Holder    string    `json:"holder"` // name of the process; empty if the lease is free
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Progress  time.Time `json:"progress,omitzero"`
	Now       time.Time `json:"now"` // the database's clock

	// OldestCommit is when the oldest of the stored entries was committed; zero if
	// there is none.
	OldestCommit time.Time `json:"oldest_commit,omitzero"`

	Role          string `json:"role,omitempty"`
	Superuser     bool   `json:"superuser"`
	OwnsTables    bool   `json:"owns_tables"`
	MissingRights string `json:"missing_rights,omitempty"`
	TLS           *bool  `json:"tls,omitempty"` // of the connection of this report; nil: a local socket or file

	// Settings decide what survives a power cut: fsync, full_page_writes,
	// synchronous_commit, and for SQLite journal_mode.
	Settings map[string]string `json:"settings"`
	// SyncStandbyNames is Postgres's synchronous_standby_names.
	SyncStandbyNames string `json:"synchronous_standby_names"`
	// Standbys are the connected standbys by sync_state; nil: the role may not see it.
	Standbys map[string]int `json:"standbys,omitempty"`

	Size int64 `json:"size"` // bytes
	Free int64 `json:"free"` // bytes of the volume; -1: not known
	// Buckets are those stored, as the database estimates, and LastDay those of the
	// newest 24 hours of the log.
	Buckets int64 `json:"buckets"`
	LastDay int64 `json:"last_day"`
}
