//! What decoders find wrong with bytes: one list for all protocols, because each is a label of one metric.

/// Defines the enumeration and the names of its members.
macro_rules! errors {
    ($($(#[$doc:meta])* $error:ident = $name:literal,)*) => {
        /// What is wrong with some bytes, or why they are not read. What becomes of the connection is another question,
        /// which `Fault` answers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DecodeError {
            $($(#[$doc])* $error,)*
        }

        impl DecodeError {
            /// The label in metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$error => $name,)*
                }
            }

            #[cfg(test)]
            const ALL: &'static [Self] = &[$(Self::$error,)*];
        }
    };
}

errors! {
    /// A frame of no known kind, or of a length that none of its kind has.
    BadFrame = "bad_frame",
    /// A frame that does not end with the end octet.
    BadFrameEnd = "bad_frame_end",
    /// A content header without its class and length.
    BadContentHeader = "bad_content_header",
    /// A second content header for one message.
    SecondHeader = "second_header",
    /// Body bytes before a header, or after the message's end.
    BodyWithoutHeader = "body_without_header",
    /// More body bytes than the header has announced.
    BodyTooLong = "body_too_long",
    /// A header or body that no method has announced.
    ContentWithoutMethod = "content_without_method",
    /// A message begins while another is on its way on the same channel.
    UnfinishedMessage = "unfinished_message",
    /// A method that is not in the specification, or not its sender's to say.
    UnknownMethod = "unknown_method",
    /// A method whose arguments end early.
    ShortMethod = "short_method",
    /// More channels than are followed.
    TooManyChannels = "too_many_channels",
    /// More messages on their way at once than are put together.
    TooManyMessagesAtOnce = "too_many_messages_at_once",
    /// A token whose signature would have to be checked, beyond what is checked in one second.
    TokenUnchecked = "token_unchecked",
    /// Properties of a message that are not written as they should be.
    BadProperties = "bad_properties",
    /// More requests without an answer than are remembered.
    TooManyRequests = "too_many_requests",
    /// More messages waiting for a reply than are remembered.
    TooManyMessages = "too_many_messages",
    /// An answer that nothing was asked for.
    UnaskedAnswer = "unasked_answer",
    /// A request line or status line that is none.
    StartLine = "start_line",
    /// A header that is not written as it should be.
    Header = "header",
    /// A version that is not HTTP/1.
    Version = "version",
    /// More headers than are read.
    TooManyHeaders = "too_many_headers",
    /// A head or a line longer than is kept.
    HeadTooLong = "head_too_long",
    /// A length of the body that is none, or several that differ.
    ContentLength = "content_length",
    /// Both a length and a transfer encoding, or encodings that no body can end with.
    ConflictingFraming = "conflicting_framing",
    /// A transfer encoding after which nobody can tell where the body ends.
    TransferEncoding = "transfer_encoding",
    /// The size of a chunk that is none.
    ChunkSize = "chunk_size",
    /// A chunk that is longer than its size says.
    ChunkEnd = "chunk_end",
    /// Trailers longer than are read.
    Trailers = "trailers",
    /// A response that no request waits for.
    UnsolicitedResponse = "unsolicited_response",
    /// More content encodings on top of each other than are undone.
    ContentCodingList = "content_coding_list",
    /// A content encoding that is not known here.
    ContentCodingUnknown = "content_coding_unknown",
    /// No memory is left to undo an encoding in.
    ContentCodingMemory = "content_coding_memory",
    /// A body that unpacks to more than is read.
    ContentCodingTooLarge = "content_coding_too_large",
    /// A body whose encoding ends early.
    ContentCodingCut = "content_coding_cut",
    /// A body that is not encoded as its head says.
    ContentCoding = "content_coding",
    /// A frame of a length that none has.
    FrameLength = "frame_length",
    /// A frame that ends early.
    ShortFrame = "short_frame",
    /// A number of more bytes than one has.
    LongNumber = "long_number",
    /// A length that is negative or too large.
    Length = "length",
    /// A request without a whole header.
    Request = "request",
    /// A response without a whole header.
    Response = "response",
    /// A response to no request that is known.
    UnknownCorrelation = "unknown_correlation",
    /// A request of a version that is not read here.
    UnreadVersion = "unread_version",
    /// A step of an authentication that is longer than one is.
    LoginLength = "login_length",
    /// The length of a batch that is none.
    BatchLength = "batch_length",
    /// The number of a batch's records that is none.
    BatchCount = "batch_count",
    /// A format of records that does not exist.
    Magic = "magic",
    /// The length of a record that is none.
    RecordLength = "record_length",
    /// A record that does not follow its format.
    Record = "record",
    /// A message of the old formats that does not follow them.
    Message = "message",
    /// Records behind one that could not be read.
    RecordsUnread = "records_unread",
    /// Compressed messages of the old formats, which are not read here.
    OldCompressedMessages = "old_compressed_messages",
    /// A compression that is not read here.
    UnreadableCompression = "unreadable_compression",
    /// A batch that does not unpack.
    CompressedBatch = "compressed_batch",
    /// Bytes that begin no request.
    NoRequest = "no_request",
    /// The beginning of no packet.
    BadPacket = "bad_packet",
    /// A remaining length of more than four bytes.
    BadLength = "bad_length",
    /// A publication that ends inside its head.
    BadPublish = "bad_publish",
    /// A topic that is not text, or has wildcards.
    BadTopic = "bad_topic",
    /// A publication whose head is longer than is read.
    LongProperties = "long_properties",
    /// A packet that ends early.
    ShortPacket = "short_packet",
    /// A packet that is the other side's to say.
    WrongSide = "wrong_side",
    /// A line longer than is kept.
    LineTooLong = "line_too_long",
    /// A payload longer than the server takes.
    PayloadLength = "payload_length",
    /// A payload that does not end with a line end.
    PayloadEnd = "payload_end",
    /// A line that no client says.
    ClientLine = "client_line",
    /// A line that no server says.
    ServerLine = "server_line",
    /// A PUB or HPUB without its words.
    Pub = "pub",
    /// A MSG or HMSG without its words.
    Msg = "msg",
    /// A CONNECT whose JSON cannot be read.
    Connect = "connect",
    /// The beginning of no session.
    Startup = "startup",
    /// An answer to a request for encryption that is none.
    EncryptionAnswer = "encryption_answer",
    /// A message of a type that its sender does not have.
    MessageType = "message_type",
    /// A message of a length that none of its type has.
    MessageLength = "message_length",
    /// A body that does not follow its type's format.
    MessageBody = "message_body",
    /// A reply that nothing asked for, or that its request cannot have.
    UnexpectedReply = "unexpected_reply",
    /// More requests without a reply than are remembered.
    RequestsInFlight = "requests_in_flight",
    /// The length of an array that is none.
    ArrayLength = "array_length",
    /// The length of a bulk string that is none.
    BulkLength = "bulk_length",
    /// Something other than a bulk string in a command.
    BulkExpected = "bulk_expected",
    /// A bulk string that is longer than its length says.
    BulkEnd = "bulk_end",
    /// An inline command with control characters.
    Inline = "inline",
    /// A line that ends without a carriage return.
    LineEnd = "line_end",
    /// An empty line where a reply should begin.
    EmptyLine = "empty_line",
    /// A reply of no known type.
    ReplyType = "reply_type",
    /// Arrays nested deeper than are read.
    TooDeep = "too_deep",
    /// A reply that no command waits for.
    UnsolicitedReply = "unsolicited_reply",
    /// An extension that is not known here.
    WebsocketExtension = "websocket_extension",
    /// A client's frame without a mask, or a server's with one.
    WebsocketMask = "websocket_mask",
    /// A length with its highest bit set.
    WebsocketLength = "websocket_length",
    /// Reserved bits that were not agreed on.
    WebsocketReservedBits = "websocket_reserved_bits",
    /// A continuation of no message.
    WebsocketContinuation = "websocket_continuation",
    /// A message begins inside another.
    WebsocketInterleaved = "websocket_interleaved",
    /// A control frame that is long, or in pieces.
    WebsocketControl = "websocket_control",
    /// A frame of a kind that does not exist.
    WebsocketOpcode = "websocket_opcode",
    /// Bytes are missing where what follows cannot be read without them.
    WebsocketGap = "websocket_gap",
    /// A compressed message that does not unpack.
    WebsocketDeflate = "websocket_deflate",
    /// A compressed message that unpacks to more than is read.
    WebsocketDeflateTooLarge = "websocket_deflate_too_large",
    /// A connection that does not begin with what every client says first.
    Preface = "preface",
    /// More padding than there is payload.
    Padding = "padding",
    /// A header block that is none.
    HeaderBlock = "header_block",
    /// A string in it that is not encoded as it should be.
    HeaderString = "header_string",
    /// A frame between those of one header block, or one of them alone.
    Continuation = "continuation",
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_error_has_a_label_of_its_own() {
        let names: BTreeSet<&str> = DecodeError::ALL.iter().map(|e| e.name()).collect();
        assert_eq!(names.len(), DecodeError::ALL.len());
        let is_label = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(names.iter().all(is_label), "{names:?}");
    }
}
