//! What is said to quota stores, said to them: the script to the system's Redis, directly and
//! through HTTP fronts, and the Rate Limit Service protocol to a stand-in.

mod rls;
mod with_redis;
