export type { UserFunction } from './auth/identity.js';
export type { LoginFunction } from './auth/login-check.js';
export { JobTrackerError, type JobTrackerErrorCode } from './errors.js';
export type { ImageStore, ImageWriter, StoredFile } from './images/image-store.js';
export type {
  BackendName,
  ComfyUIFile,
  Job,
  JobChange,
  JobError,
  JobErrorCode,
  JobProgress,
  JobStatus,
  RequestFields,
} from './job.js';
export { jobTracker } from './job-tracker.js';
export type { JobEventMap, JobEvents } from './jobs/job-events.js';
export type { Jobs } from './jobs/jobs.js';
export type { Logger } from './logger.js';
export type { Duration, JobTrackerOptions } from './options.js';
export type { JobPage, JobQuery, JobStore } from './stores/job-store.js';
export type { CloseOptions, JobTracker, TrackedJobs } from './tracker-interface.js';
