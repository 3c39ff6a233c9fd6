// Package adminsvc is the gRPC server of weir.admin.v1.AdminService: what operators
// change on request.
//
// The service validates a request and resolves its selection. What changes something is
// then carried out by the loop of the leader (package poll), which alone appends; a
// process that does not lead rejects it with NOT_LEADER and names the leader. Lists are
// read from the store and served by standbys too.
//
// Every method requires admin access (package auth). The errors are in one table, in
// errors.go.
package adminsvc
