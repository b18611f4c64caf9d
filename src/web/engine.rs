//! Temporal, as far as the pages need it. It connects when it is first asked and again after it was away, so pages are
//! served whether Temporal is there or not.
use std::time::Duration;

use contract::{
    WORKFLOW_TASK_LIMIT,
    attention::Decision,
    order::{CheckoutReply, CoverReply, OrderInput, OrderOutcome, wire},
    subscription::{self, Outlook},
};
use domain::{ids::SubscriptionId, instruction::Instruction};
use temporalio_client::{
    Client, ConnectionOptions, GrpcCompression, Url, WorkflowExecuteUpdateOptions, WorkflowIdConflictPolicy,
    WorkflowIdReusePolicy, WorkflowQueryOptions, WorkflowUpdateWithStartOptions,
    errors::{WorkflowStartError, WorkflowUpdateError, WorkflowUpdateWithStartError},
    tonic::{Code, Request, Status},
};
use temporalio_common::{
    HasWorkflowDefinition, QueryDefinition, UntypedWorkflow, UpdateDefinition, WorkflowDefinition,
    data_converters::RawValue, protos::temporal::api::workflowservice::v1::GetSystemInfoRequest,
};
use tokio::sync::Mutex;
use tracing::Instrument;

use crate::{attributes::found_by, telemetry::client_options};

/// How long a page waits for Temporal.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a checkout does: long enough for a workflow task that was handed to a worker just going away to be handed out
/// once more.
const CHECKOUT_PATIENCE: Duration = Duration::from_secs(12);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The update every workflow takes a decision of staff through.
const DECIDE: &str = "decide";
/// One checkout for one order, however often its form is sent.
const CHECKOUT_ONCE: &str = "checkout";
/// The same of an order that a subscription covers.
const BEGUN_ONCE: &str = "begin";

/// Why Temporal did not do what a page asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineRefusal {
    /// It did not answer in time or is away. Whether it did what was asked is unknown; asking again is safe.
    #[error("Temporal is away while {doing}")]
    Away {
        /// What we were doing.
        doing: &'static str,
        /// Its or the network's words.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// No such workflow is running any more.
    #[error("the workflow is not running")]
    Gone,
    /// The workflow refused, and says why.
    #[error("the workflow refused: {0}")]
    Refused(String),
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn away(doing: &'static str, source: impl Into<Cause>) -> EngineRefusal {
    EngineRefusal::Away { doing, source: Some(source.into()) }
}

/// The order workflow as the wire knows it.
struct OrderWorkflow;

impl WorkflowDefinition for OrderWorkflow {
    type Input = OrderInput;
    type Output = OrderOutcome;

    fn name(&self) -> &str {
        wire::TYPE
    }
}

impl HasWorkflowDefinition for OrderWorkflow {
    type Run = Self;
}

struct Checkout;

impl UpdateDefinition for Checkout {
    type Workflow = OrderWorkflow;
    type Input = OrderInput;
    type Output = CheckoutReply;

    fn name(&self) -> &str {
        wire::CHECKOUT
    }
}

/// The workflow of an order that a subscription covers.
struct CoveredWorkflow;

impl WorkflowDefinition for CoveredWorkflow {
    type Input = OrderInput;
    type Output = OrderOutcome;

    fn name(&self) -> &str {
        wire::COVERED
    }
}

impl HasWorkflowDefinition for CoveredWorkflow {
    type Run = Self;
}

struct Begin;

impl UpdateDefinition for Begin {
    type Workflow = CoveredWorkflow;
    type Input = OrderInput;
    type Output = CoverReply;

    fn name(&self) -> &str {
        wire::BEGIN
    }
}

struct Decide;

impl UpdateDefinition for Decide {
    type Workflow = UntypedWorkflow;
    type Input = Decision;
    type Output = RawValue;

    fn name(&self) -> &str {
        DECIDE
    }
}

struct Instruct;

impl UpdateDefinition for Instruct {
    type Workflow = UntypedWorkflow;
    type Input = Instruction;
    type Output = RawValue;

    fn name(&self) -> &str {
        subscription::wire::INSTRUCT
    }
}

struct AskOutlook;

impl QueryDefinition for AskOutlook {
    type Workflow = UntypedWorkflow;
    type Input = ();
    type Output = Outlook;

    fn name(&self) -> &str {
        subscription::wire::OUTLOOK
    }
}

/// A connection to Temporal that may not be there yet.
pub(crate) struct Engine {
    address: Url,
    namespace: String,
    task_queue: String,
    client: Mutex<Option<Client>>,
}

impl Engine {
    /// Remembers where Temporal is; nothing is connected yet.
    pub(crate) fn new(address: Url, namespace: String, task_queue: String) -> Self {
        Self { address, namespace, task_queue, client: Mutex::new(None) }
    }

    async fn client(&self) -> Result<Client, EngineRefusal> {
        let mut kept = self.client.lock().await;
        if let Some(client) = kept.as_ref() {
            return Ok(client.clone());
        }
        let connection = ConnectionOptions::new(self.address.clone())
            .identity("ez serve")
            .connect_timeout(CONNECT_TIMEOUT)
            .grpc_compression(GrpcCompression::None)
            .build();
        let options = client_options(&self.namespace);
        let client = tokio::time::timeout(PATIENCE, Client::connect(connection, options))
            .await
            .map_err(|late| away("connecting", late))?
            .map_err(|fault| away("connecting", fault))?;
        *kept = Some(client.clone());
        Ok(client)
    }

    /// A connection that lost its server is made anew at the next call.
    async fn forget(&self) {
        *self.client.lock().await = None;
    }

    async fn within<T>(
        &self,
        doing: &'static str,
        patience: Duration,
        call: impl Future<Output = Result<T, EngineRefusal>>,
    ) -> Result<T, EngineRefusal> {
        let answer = tokio::time::timeout(patience, call).await.unwrap_or_else(|late| Err(away(doing, late)));
        if matches!(answer, Err(EngineRefusal::Away { .. })) {
            self.forget().await;
        }
        answer
    }

    /// Says whether Temporal answers.
    ///
    /// *Errors*: [`EngineRefusal::Away`], after at most five seconds.
    pub(crate) async fn ping(&self) -> Result<(), EngineRefusal> {
        let client = self.client().await?;
        self.within("asking how it is", PATIENCE, async {
            let mut service = client.connection().workflow_service();
            let asked = service.get_system_info(Request::new(GetSystemInfoRequest {})).await;
            asked.map(drop).map_err(|status| away("asking how it is", status))
        })
        .await
    }

    /// Starts an order's workflow, or finds it running, and waits until its payment page is open or cannot be.
    ///
    /// *Idempotence*: the same order again gives the same answer; an order that has ended says so.
    pub(crate) async fn open_checkout(&self, input: OrderInput) -> Result<CheckoutReply, EngineRefusal> {
        let client = self.client().await?;
        let order = input.order;
        let span = tracing::info_span!("opening a checkout", %order, workflow = order.workflow_id());
        let options = self.first_step(&input, CHECKOUT_ONCE);
        self.within("opening a checkout", CHECKOUT_PATIENCE, async {
            let asked =
                client.execute_update_with_start_workflow(OrderWorkflow, input.clone(), Checkout, input, options).await;
            tracing::info!(answered = asked.is_ok(), "a checkout was asked for");
            asked.or_else(|fault| refusal_at_start(fault, "opening a checkout", CheckoutReply::Closed))
        })
        .instrument(span)
        .await
    }

    /// Starts the workflow of an order that a subscription covers, or finds it running, and waits until it is known whether
    /// there is a place for it.
    ///
    /// *Idempotence*: the same order again gives the same answer; an order that has ended says so.
    pub(crate) async fn begin_covered(&self, input: OrderInput) -> Result<CoverReply, EngineRefusal> {
        let client = self.client().await?;
        let order = input.order;
        let span = tracing::info_span!("beginning a covered order", %order, workflow = order.workflow_id());
        let options = self.first_step(&input, BEGUN_ONCE);
        self.within("beginning a covered order", CHECKOUT_PATIENCE, async {
            let asked =
                client.execute_update_with_start_workflow(CoveredWorkflow, input.clone(), Begin, input, options).await;
            tracing::info!(answered = asked.is_ok(), "a covered order was asked for");
            asked.or_else(|fault| refusal_at_start(fault, "beginning a covered order", CoverReply::Closed))
        })
        .instrument(span)
        .await
    }

    /// How an order's workflow is started or found, and asked one thing once.
    fn first_step(&self, input: &OrderInput, once: &str) -> WorkflowUpdateWithStartOptions {
        let id = input.order.workflow_id();
        WorkflowUpdateWithStartOptions::new(&self.task_queue, id, WorkflowIdConflictPolicy::UseExisting)
            .id_reuse_policy(WorkflowIdReusePolicy::RejectDuplicate)
            .search_attributes(found_by(wire::TYPE, "reserve", Some(input.account)))
            .task_timeout(WORKFLOW_TASK_LIMIT)
            .update_id(once)
            .build()
    }

    /// Tells a waiting workflow what staff decided.
    ///
    /// *Idempotence*: a decision about a step that no longer waits is refused by the workflow.
    pub(crate) async fn decide(&self, workflow_id: &str, decision: Decision) -> Result<(), EngineRefusal> {
        let client = self.client().await?;
        let handle = client.get_workflow_handle::<UntypedWorkflow>(workflow_id);
        self.within("handing over a decision", PATIENCE, async {
            let options = WorkflowExecuteUpdateOptions::default();
            handle.execute_update(Decide, decision, options).await.map(drop).map_err(update_refusal)
        })
        .await
    }

    /// Tells a subscription to do something; it answers when that is written down.
    ///
    /// *Idempotence*: the same instruction again is the same one.
    pub(crate) async fn instruct(
        &self,
        subscription: &SubscriptionId,
        instruction: Instruction,
    ) -> Result<(), EngineRefusal> {
        let client = self.client().await?;
        let handle = client.get_workflow_handle::<UntypedWorkflow>(subscription.workflow_id());
        self.within("handing over an instruction", PATIENCE, async {
            let options = WorkflowExecuteUpdateOptions::builder().update_id(instruction.id.to_string()).build();
            handle.execute_update(Instruct, instruction, options).await.map(drop).map_err(update_refusal)
        })
        .await
    }
}

impl Engine {
    /// What the next thing a subscription does is decided by. Reads only.
    pub(crate) async fn outlook(
        &self,
        subscription: &SubscriptionId,
        patience: Duration,
    ) -> Result<Outlook, EngineRefusal> {
        let client = self.client().await?;
        let handle = client.get_workflow_handle::<UntypedWorkflow>(subscription.workflow_id());
        let asked = handle.query(AskOutlook, (), WorkflowQueryOptions::default());
        // One workflow that does not answer says nothing about the connection.
        let answer = tokio::time::timeout(patience, asked).await.map_err(|late| away("asking for an outlook", late))?;
        answer.map_err(|fault| away("asking for an outlook", fault))
    }
}

/// An order whose workflow has ended is past its beginning.
fn refusal_at_start<R>(
    fault: WorkflowUpdateWithStartError,
    doing: &'static str,
    closed: R,
) -> Result<R, EngineRefusal> {
    match fault {
        WorkflowUpdateWithStartError::Start(WorkflowStartError::AlreadyStarted { .. }) => Ok(closed),
        WorkflowUpdateWithStartError::Update(fault) => match update_refusal(fault) {
            EngineRefusal::Gone => Ok(closed),
            other => Err(other),
        },
        other => Err(away(doing, other)),
    }
}

fn update_refusal(fault: WorkflowUpdateError) -> EngineRefusal {
    match fault {
        WorkflowUpdateError::NotFound(_) => EngineRefusal::Gone,
        WorkflowUpdateError::Failed(failure) => EngineRefusal::Refused(failure.message),
        WorkflowUpdateError::Rpc(status) if is_gone(&status) => EngineRefusal::Gone,
        other => away("updating a workflow", other),
    }
}

fn is_gone(status: &Status) -> bool {
    status.code() == Code::NotFound
}
