package auth

import (
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Access is the access level that a method requires. Each includes those before it.
type Access int

const (
	// Open methods neither reveal nor change data: every caller is allowed.
	Open Access = iota
	// Read is for methods that change nothing.
	Read
	// Admin is for methods that change something.
	Admin
)

// String is the word for messages and logs.
func (a Access) String() string {
	return [...]string{Open: "open", Read: "read", Admin: "admin"}[a]
}

// Table says what each method needs, by its full name
// ("/weir.bucket.v1.BucketService/WatchBuckets").
type Table map[string]Access

// Needs is the access that a method requires. An unknown method requires the highest,
// so that a new method is closed until it is listed.
func (t Table) Needs(method string) Access {
	if a, known := t[method]; known {
		return a
	}
	return Admin
}

// Methods is the table of all services that a collector serves. The package's tests
// compare it with their descriptors.
var Methods = Table{
	// Probes have no credential, and learn no more than from the operations port.
	healthv1.Health_Check_FullMethodName: Open,
	healthv1.Health_List_FullMethodName:  Open,
	healthv1.Health_Watch_FullMethodName: Open,

	// Reflection reveals the API of readers, so it requires read access.
	reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName:      Read,
	reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName: Read,

	bucketv1.BucketService_WatchBuckets_FullMethodName: Read,
	bucketv1.BucketService_ListBuckets_FullMethodName:  Read,
	bucketv1.BucketService_ListDatasets_FullMethodName: Read,
	bucketv1.BucketService_ListScopes_FullMethodName:   Read,
	bucketv1.BucketService_GetCoverage_FullMethodName:  Read,
	bucketv1.BucketService_GetStatus_FullMethodName:    Read,

	// Also the lists: they name people, and what they gave as reasons.
	adminv1.AdminService_EstimateBackfill_FullMethodName: Admin,
	adminv1.AdminService_CreateBackfill_FullMethodName:   Admin,
	adminv1.AdminService_GetBackfill_FullMethodName:      Admin,
	adminv1.AdminService_ListBackfills_FullMethodName:    Admin,
	adminv1.AdminService_PauseBackfill_FullMethodName:    Admin,
	adminv1.AdminService_ResumeBackfill_FullMethodName:   Admin,
	adminv1.AdminService_CancelBackfill_FullMethodName:   Admin,
	adminv1.AdminService_WatchBackfill_FullMethodName:    Admin,
	adminv1.AdminService_ListGaps_FullMethodName:         Admin,
	adminv1.AdminService_AcceptGaps_FullMethodName:       Admin,
	adminv1.AdminService_Restate_FullMethodName:          Admin,
	adminv1.AdminService_ListAuditEvents_FullMethodName:  Admin,
}
