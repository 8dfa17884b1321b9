//! What goes wrong with Kafka, as faults: what failed, whether it may have happened, and how it is mended.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use records::{ErrorType, Fault};

/// A failure of librdkafka's while doing `what`.
pub(super) fn fault(what: &str, error: &KafkaError) -> Fault {
    let Some(code) = error.rdkafka_error_code() else {
        return Fault::retryable(ErrorType::Unavailable, format!("cannot {what}: {error}"));
    };
    let message = format!("cannot {what}: {code}{}", mend(code));
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => Fault::permanent(ErrorType::Refused, message),
        // What was sent may have arrived.
        Code::OperationTimedOut | Code::RequestTimedOut | Code::MessageTimedOut => {
            Fault::indeterminate(ErrorType::Timeout, message)
        }
        code if is_refusal(code) => Fault::retryable(ErrorType::Refused, message),
        _ => Fault::retryable(ErrorType::Unavailable, message),
    }
}

/// Whether somebody has to allow or make something before it can work.
pub(super) fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::InconsistentGroupProtocol
    )
}

/// Whether librdkafka goes on by itself, with another broker or a moment later.
pub(super) fn passes_by_itself(code: Code) -> bool {
    matches!(code, Code::BrokerTransportFailure | Code::OperationTimedOut | Code::Resolve)
}

fn mend(code: Code) -> &'static str {
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            ": create the topic, or correct its name in [kafka]"
        }
        Code::TopicAuthorizationFailed => ": allow READ on the lanes' topics and WRITE on those that are published to",
        Code::GroupAuthorizationFailed => ": allow READ on the groups that begin with kafka.group",
        Code::ClusterAuthorizationFailed => ": allow IDEMPOTENT_WRITE on the cluster",
        Code::SaslAuthenticationFailed | Code::Authentication => {
            ": correct security.protocol and sasl.* in kafka.options"
        }
        Code::InconsistentGroupProtocol => ": the group has members of another kind; choose another kafka.group",
        Code::AllBrokersDown => ": no broker of kafka.brokers answers",
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => {
            ": raise the topic's max.message.bytes, and \"message.max.bytes\" in kafka.options"
        }
        Code::FencedInstanceId => ": another worker has the same group.instance.id; restart with one of its own",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use records::FaultClass;

    use super::*;

    #[test]
    fn each_failure_says_what_may_be_done_about_it() {
        let of = |code| fault("commit", &KafkaError::ConsumerCommit(code));
        assert_eq!(of(Code::AllBrokersDown).class, FaultClass::Retryable);
        assert_eq!(of(Code::RequestTimedOut).class, FaultClass::Indeterminate);
        assert_eq!(of(Code::MessageSizeTooLarge).class, FaultClass::Permanent);
        assert!(of(Code::UnknownTopicOrPartition).message.contains("create the topic"));
        assert_eq!(of(Code::GroupAuthorizationFailed).error_type, ErrorType::Refused);
    }
}
