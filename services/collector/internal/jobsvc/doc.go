// Package jobsvc carries out the AdminService's methods about backfills.
//
// It validates requests and converts them. Estimates and changes are carried out by the loop
// of the leader (package poll). Backfills are read from the store, so that standbys serve them
// too.
package jobsvc
