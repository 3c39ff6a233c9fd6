// Package rawcodec lets a gRPC server send messages that are encoded already.
//
// An entry of the log is encoded once and sent on every stream. gRPC offers no
// way to share an encoded message between streams, but it does let a server
// choose its codec; this one passes a [Frame] through and leaves everything else
// to the protobuf codec. On the wire nothing differs.
package rawcodec

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Frame is the encoding of one whole message of the method's response type.
// It may be sent on any number of streams and must never be written to again.
type Frame []byte

// ServerOption makes a server accept a [Frame] in SendMsg.
func ServerOption() grpc.ServerOption {
	return grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name)})
}

type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2. The slice is not pooled: gRPC's release
// of it does nothing, which is what makes sharing safe.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(Frame); ok {
		return mem.BufferSlice{mem.SliceBuffer(f)}, nil
	}
	return c.CodecV2.Marshal(v)
}
