"""A train step written by hand that may change the gradients, on every backend of Keras."""

import keras


class _OnTensorFlow:
    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(self.changed(gradients), self.trainable_variables)
        return {"loss": loss}


class _OnJax:
    def train_step(self, state, data):
        import jax

        trainable, others, optimizer, metrics = state
        x, y = data
        differentiate = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (_, (loss, _, others, metrics)), gradients = differentiate(
            trainable, others, metrics, x, y, None, training=True, optimizer_variables=optimizer
        )
        trainable, optimizer = self.optimizer.stateless_apply(
            optimizer, self.changed(gradients), trainable
        )
        return {"loss": loss}, (trainable, others, optimizer, metrics)


class Stepping({"tensorflow": _OnTensorFlow, "jax": _OnJax}[keras.backend.backend()]):
    """To be put before a kind of model; subclasses say what becomes of the gradients."""

    def changed(self, gradients):
        return gradients
