package backfill

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// lists decodes the messages of lists with [wire.UnmarshalList]. On the wire nothing differs.
var lists = grpc.ForceCodecV2(listCodec{encoding.GetCodecV2(proto.Name)})

type listCodec struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c listCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*bucketv1.ListBucketsResponse)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	return wire.UnmarshalList(whole.ReadOnlyData(), m)
}
